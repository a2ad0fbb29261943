// SPDX-License-Identifier: MIT
// A program under `worker run` that was taken over. Prints a line that begins with "reached" for everything that it gets
// and should not, and in the end how often its races were tried.
//
// Arguments: tries, a private directory, a file it may read ("allowed"), a file it may not ("denied"), and a file of the same
// user ("kept"). The last one may be read and written, and nothing else of it changed. Each holds its name in one line.
#include <fcntl.h>
#include <fmt/core.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Scene {
    long tries;
    std::string own;
    std::string allowed;
    std::string denied;
    std::string kept;  // the program's user owns it, and may read and write it
};

void reached(const std::string& what) {
    fmt::print("reached {}\n", what);
}

bool holds_denied(int file) {
    std::array<char, 100> text{};
    const ssize_t size = ::pread(file, text.data(), text.size() - 1, 0);
    return size > 0 && std::string(text.data()).find("denied") != std::string::npos;
}

void look(const char* how, int file) {
    if (file < 0) return;
    if (holds_denied(file)) reached(how);
    ::close(file);
}

// ---- races ---------------------------------------------------------------------------------------------------

// A path in memory that another thread exchanges without end.
class ChangingPath {
  public:
    ChangingPath(const std::string& one, const std::string& other) {
        const std::size_t size = std::max(one.size(), other.size()) + 1;
        one_.assign(size, '\0');
        other_.assign(size, '\0');
        std::memcpy(one_.data(), one.data(), one.size());
        std::memcpy(other_.data(), other.data(), other.size());
        path_ = one_;
        thread_ = std::jthread([this](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                std::memcpy(path_.data(), other_.data(), path_.size());
                std::memcpy(path_.data(), one_.data(), path_.size());
            }
        });
    }
    const char* path() const { return path_.data(); }

  private:
    std::vector<char> one_{};
    std::vector<char> other_{};
    std::vector<char> path_{};
    std::jthread thread_{};
};

void exchange_strings(const Scene& scene) {
    const ChangingPath changing(scene.allowed, scene.denied);
    const ChangingPath from_runtime("/usr/bin/env", scene.denied);
    struct stat denied{};
    for (long turn = 0; turn < scene.tries; ++turn) {
        look("a string exchanged under open", ::open(changing.path(), O_RDONLY));
        look("a string exchanged under an open of the runtime", ::open(from_runtime.path(), O_RDONLY));
        look("a string exchanged under O_PATH", ::openat(::open(from_runtime.path(), O_PATH), "", O_RDONLY));
        if (turn % 16 == 0) {
            ::close_range(3, ~0U, 0);
            if (::stat(from_runtime.path(), &denied) == 0 && denied.st_size == 7)
                reached("a string exchanged under stat");
        }
    }
}

void exchange_links(const Scene& scene) {
    const std::string link = scene.own + "/link";
    const std::string other = scene.own + "/other";
    ::symlink(scene.allowed.c_str(), link.c_str());
    ::symlink(scene.denied.c_str(), other.c_str());
    std::jthread exchanging([&](const std::stop_token& stop) {
        const std::string third = scene.own + "/third";
        while (!stop.stop_requested()) {
            ::rename(link.c_str(), third.c_str());
            ::rename(other.c_str(), link.c_str());
            ::rename(third.c_str(), other.c_str());
        }
    });
    for (long turn = 0; turn < scene.tries / 4; ++turn)
        look("a link exchanged", ::open(link.c_str(), O_RDONLY));
}

void exchange_programs(const Scene& scene) {
    // A program that only the file's owner could have granted: it prints "reached" itself.
    const std::string program = scene.denied + ".sh";
    const ChangingPath changing("/bin/true", program);
    for (long turn = 0; turn < scene.tries / 64; ++turn) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::execl(changing.path(), "program", nullptr);
            ::_exit(0);
        }
        ::waitpid(child, nullptr, 0);
    }
}

void exchange_directories(const Scene& scene) {
    const std::string denied = scene.denied.substr(0, scene.denied.rfind('/'));
    const ChangingPath changing(scene.own, denied);
    for (long turn = 0; turn < scene.tries / 4; ++turn) {
        if (::chdir(changing.path()) != 0) continue;
        look("a directory exchanged under chdir", ::open("denied", O_RDONLY));
        const int directory = ::open(changing.path(), O_RDONLY | O_DIRECTORY);
        look("a directory exchanged under open", ::openat(directory, "denied", O_RDONLY));
        ::close(directory);
    }
    ::chdir(scene.own.c_str());
}

// A descriptor that is a pipe's when the call is looked at may be a brokered file's when it is carried out.
void exchange_descriptors(const Scene& scene) {
    std::array<int, 2> ends{};
    const int file = ::open(scene.kept.c_str(), O_RDWR);
    struct stat before{};
    if (file < 0 || ::pipe(ends.data()) != 0 || ::fstat(file, &before) != 0)
        return reached("no file to exchange");
    const int changing = ::dup(ends[0]);
    {
        std::jthread exchanging([&](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                ::dup2(file, changing);
                ::dup2(ends[0], changing);
            }
        });
        const std::array<timespec, 2> times{};
        for (long turn = 0; turn < scene.tries / 4; ++turn) {
            ::fchmod(changing, 0777);
            ::futimens(changing, times.data());
            ::fsetxattr(changing, "user.reached", "x", 1, 0);
        }
    }
    struct stat after{};
    ::fstat(file, &after);
    if (after.st_mode != before.st_mode) reached("the mode of a file that may be written alone");
    if (after.st_mtim.tv_sec != before.st_mtim.tv_sec)
        reached("the times of a file that may be written alone");
    if (::fgetxattr(file, "user.reached", nullptr, 0) >= 0) reached("an attribute of such a file");
    for (const int number : {file, ends[0], ends[1], changing}) ::close(number);
}

// ---- what is there without a race ------------------------------------------------------------------------------

void reach_paths(const Scene& scene) {
    const std::vector<std::string> ways{scene.denied,
                                        "/proc/self/root" + scene.denied,
                                        "/proc/self/cwd/../.." + scene.denied,
                                        "/proc/thread-self/root" + scene.denied,
                                        "/proc/1/root" + scene.denied,
                                        "/proc/1/cwd" + scene.denied,
                                        "/dev/fd/../../.." + scene.denied,
                                        "/usr/.." + scene.denied,
                                        "/usr/bin/../../." + scene.denied,
                                        "/../.." + scene.denied,
                                        "//" + scene.denied,
                                        scene.own + "/.." + scene.denied.substr(scene.own.rfind('/'))};
    for (const std::string& way : ways) {
        look(way.c_str(), ::open(way.c_str(), O_RDONLY));
        look(way.c_str(), ::open(way.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    }
    for (const char* anchor : {"/", "/usr", "/proc/self", "/proc/self/fd", "/proc/self/task"}) {
        const int directory = ::open(anchor, O_RDONLY | O_DIRECTORY);
        const int path = ::open(anchor, O_PATH);
        for (const int from : {directory, path}) {
            if (from < 0) continue;
            for (const std::string& up : {"." + scene.denied, "../../../.." + scene.denied})
                look((std::string(anchor) + " and up").c_str(), ::openat(from, up.c_str(), O_RDONLY));
            if (::fchdir(from) == 0)
                look("fchdir and a relative path", ::open(("." + scene.denied).c_str(), O_RDONLY));
        }
    }
    ::chdir(scene.own.c_str());
    for (const char* file : {"/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/kcore",
                             "/proc/sysrq-trigger", "/proc/self/mem", "/dev/mem", "/dev/sda", "/dev/kmsg",
                             "/sys/kernel/uevent_helper"})
        if (const int opened = ::open(file, O_RDWR); opened >= 0) reached(file);
    if (::open("/proc/1/environ", O_RDONLY) >= 0) reached("the answerer's environment");
}

void reach_calls(const Scene& scene) {
    const auto refuse = [](const char* what, long result) {
        if (result >= 0) reached(what);
    };
    refuse("ptrace", ::ptrace(PTRACE_ATTACH, 1, nullptr, nullptr));
    refuse("ptrace by a child", ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
    std::array<char, 8> bytes{};
    iovec local{bytes.data(), bytes.size()};
    refuse("the answerer's memory", ::syscall(SYS_process_vm_readv, 1, &local, 1, &local, 1, 0));
    refuse("the answerer's memory", ::syscall(SYS_process_vm_writev, 1, &local, 1, &local, 1, 0));
    const int handle = static_cast<int>(::syscall(SYS_pidfd_open, 1, 0));
    for (int number = 0; number < 32; ++number)
        refuse("the answerer's descriptor", ::syscall(SYS_pidfd_getfd, handle, number, 0));
    refuse("unshare", ::syscall(SYS_unshare, 0x10000000));
    refuse("mount", ::mount("tmpfs", scene.own.c_str(), "tmpfs", 0, nullptr));
    refuse("chroot", ::chroot(scene.own.c_str()));
    refuse("clone into a namespace", ::syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0));
    std::array<char, 256> clone_arguments{};
    refuse("clone3", ::syscall(SYS_clone3, clone_arguments.data(), 88));
    refuse("io_uring", ::syscall(SYS_io_uring_setup, 4, clone_arguments.data()));
    refuse("bpf", ::syscall(SYS_bpf, 0, nullptr, 0));
    refuse("open_by_handle_at", ::syscall(SYS_open_by_handle_at, AT_FDCWD, clone_arguments.data(), O_RDONLY));
    refuse("fsopen", ::syscall(SYS_fsopen, "tmpfs", 0));
    refuse("open_tree", ::syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    // Asked of a pipe, a kernel that is asked at all says ENOTTY.
    for (const unsigned request : {unsigned{TIOCSTI}, unsigned{TIOCLINUX}})
        if (::ioctl(STDOUT_FILENO, request, "x") >= 0 || errno != EPERM) reached("typing into a terminal");
    refuse("a raw socket", ::socket(AF_INET, SOCK_STREAM, 0));
    refuse("a netlink socket", ::socket(AF_NETLINK, SOCK_RAW, 0));
    refuse("mknod", ::mknod((scene.own + "/node").c_str(), S_IFCHR | 0666, 0x103));
    refuse("a hard link", ::link(scene.allowed.c_str(), (scene.own + "/hard").c_str()));
    refuse("chown", ::chown(scene.own.c_str(), 0, 0));
    refuse("setuid", ::setuid(0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, "/run/systemd/private", sizeof address.sun_path - 1);
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    refuse("a socket outside", ::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address));
    std::strncpy(address.sun_path, (scene.own + "/bound").c_str(), sizeof address.sun_path - 1);
    refuse("a socket bound in a brokered directory",
           ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address));
#if defined(__x86_64__)
    long result = -1;
    asm volatile("int $0x80" : "=a"(result) : "a"(5), "b"(scene.denied.c_str()), "c"(0) : "memory");
    refuse("a call of the 32-bit table", result);
    refuse("a call of the x32 table", ::syscall(0x40000000 | SYS_open, scene.denied.c_str(), O_RDONLY));
#endif
}

// ---- trouble -----------------------------------------------------------------------------------------------------

void alarm(int) {}

// A signal may come at any moment of a call: what was opened is one descriptor, and what was made is made once.
void interrupt_calls(const Scene& scene) {
    struct sigaction action{};
    action.sa_handler = alarm;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 97},
                          .it_value = {.tv_sec = 0, .tv_usec = 97}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    const int lowest = ::dup(0);
    ::close(lowest);
    for (long turn = 0; turn < scene.tries / 8; ++turn) {
        const std::string name = scene.own + "/signal";
        const int made = ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (made < 0) fmt::print("reached a second try of O_EXCL: {}\n", ::strerrorname_np(errno));
        ::close(made);
        ::unlink(name.c_str());
    }
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    const int after = ::dup(0);
    if (after != lowest) reached("a descriptor left over by a signal");
    ::close(after);
}

// Calls that are stopped, killed, or whose memory is not there: those of others go on.
void die_in_calls(const Scene& scene) {
    for (long turn = 0; turn < scene.tries / 512 + 8; ++turn) {
        const pid_t child = ::fork();
        if (child == 0) {
            for (;;) {
                ::close(::open(scene.allowed.c_str(), O_RDONLY));
                ::open(reinterpret_cast<const char*>(8), O_RDONLY);
                ::stat(scene.allowed.c_str(), reinterpret_cast<struct stat*>(8));
            }
        }
        for (const int signal : {SIGSTOP, SIGCONT, SIGSTOP, SIGKILL}) {
            const int file = ::open(scene.allowed.c_str(), O_RDONLY);
            if (file < 0) reached("no answer while another's call is stopped");
            ::close(file);
            ::kill(child, signal);
        }
        ::waitpid(child, nullptr, 0);
    }
}

void use_many_threads(const Scene& scene) {
    std::atomic<int> good{0};
    {
        std::vector<std::jthread> threads;
        for (int number = 0; number < 1000; ++number)
            threads.emplace_back([&] {
                const int file = ::open(scene.allowed.c_str(), O_RDONLY);
                if (file >= 0) ++good;
                ::close(file);
            });
    }
    if (good != 1000) fmt::print("reached only {} of 1000 threads' opens\n", good.load());
}

void fork_without_end() {
    int made = 0;
    std::vector<pid_t> children;
    for (; made < 20000; ++made) {
        const pid_t child = ::fork();
        if (child < 0) break;
        if (child == 0) {
            ::pause();
            ::_exit(0);
        }
        children.push_back(child);
    }
    if (made == 20000) reached("20,000 processes");
    for (const pid_t child : children) ::kill(child, SIGKILL);
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
}

}  // namespace

int main(int, char** arguments) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const Scene scene{std::atol(arguments[1]), arguments[2], arguments[3], arguments[4], arguments[5]};
    reach_paths(scene);
    reach_calls(scene);
    interrupt_calls(scene);
    use_many_threads(scene);
    die_in_calls(scene);
    exchange_descriptors(scene);
    exchange_strings(scene);
    exchange_links(scene);
    exchange_directories(scene);
    exchange_programs(scene);
    fork_without_end();
    fmt::print("tried {}\n", scene.tries);
}
