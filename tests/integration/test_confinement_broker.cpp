// SPDX-License-Identifier: MIT
// The broker of a real opener, made to try what code that has taken it over would: each call beside its twin in a
// process of root's that nothing confines.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/syscall_injector.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

namespace {

// allowed/, that everyone may read through the opener, and outside/, that no rule names.
struct Tree {
    TempDir top{};
    std::string allowed = top / "allowed";
    std::string outside = top / "outside";
    std::string policy = top / "policy.yaml";
    std::string socket = top / "socket";

    Tree() {
        for (const std::string& directory : {allowed, outside}) {
            make_directory(directory);
            write_file(directory + "/secret", "secret", {.mode = 0600});
        }
        write_file(policy,
                   "version: 1\nrules:\n  - {name: all, allow: [read], paths: [\"" + allowed + "/**\"]}\n");
    }
};

Process start_opener(const Tree& tree) {
    Process opener =
        Process::start({.arguments = {opener_program(), "--control", "none", "--policy", tree.policy,
                                      "--listen", tree.socket, "--listen-mode", "0666", "--audit", "none"}});
    opener.wait_for_error("serving");
    return opener;
}

// The one generation is the supervisor's only child.
pid_t broker_of(const Process& opener) {
    const std::string pid = std::to_string(opener.pid());
    std::istringstream children(read_file("/proc/" + pid + "/task/" + pid + "/children"));
    pid_t newest = 0;
    for (pid_t child = 0; children >> child;) newest = child;
    return newest;
}

// The number under which `pid` holds a descriptor of `directory`.
int descriptor_of(const std::string& directory, pid_t pid) {
    struct stat wanted{};
    REQUIRE(::stat(directory.c_str(), &wanted) == 0);
    const DescriptorTable table = DescriptorTable::of(pid);
    for (const auto& [number, what] : table.entries()) {
        const std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(number);
        struct stat status{};
        if (::stat(link.c_str(), &status) != 0) continue;
        if (status.st_dev == wanted.st_dev && status.st_ino == wanted.st_ino) return number;
    }
    throw std::runtime_error("the process holds no descriptor of " + directory);
}

// A process of root's, confined by nothing, that waits: for the twins, and to be a victim.
class Bystander {
  public:
    // The bystander holds a descriptor of `directory`.
    explicit Bystander(const std::string& directory) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        const proto::UniqueFd read_end(ends[0]);
        keeps_waiting_ = proto::UniqueFd(ends[1]);
        const proto::UniqueFd held(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(bool(held));
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ != 0) return;
        keeps_waiting_.reset();
        char byte = 0;
        ::_exit(::read(read_end.number(), &byte, 1) == 0 ? 0 : 1);
    }
    Bystander(const Bystander&) = delete;
    Bystander& operator=(const Bystander&) = delete;
    ~Bystander() {
        keeps_waiting_.reset();
        ::waitpid(pid_, nullptr, 0);
    }
    pid_t pid() const { return pid_; }

  private:
    pid_t pid_ = -1;
    proto::UniqueFd keeps_waiting_{};
};

// The surroundings of an attempt, as the attempting process knows them.
struct Situation {
    const Tree& tree;
    int allowed;  // descriptor of that directory
    pid_t victim;
};

struct Attempt {
    std::string name;
    std::function<long(SyscallInjector&, const Situation&)> make;
    int in_the_broker;  // errno
    int in_the_twin;    // 0: it succeeds
};

long open_at(SyscallInjector& process, int directory, const std::string& path, std::uint64_t flags) {
    const open_how how{.flags = flags, .mode = (flags & O_CREAT) != 0 ? 0600U : 0U, .resolve = 0};
    return process.call(SYS_openat2, {directory, path, InjectedArgument::bytes_of(how), sizeof how});
}

using Taken = SyscallInjector;

const std::vector<Attempt>& attempts() {
    static const std::vector<Attempt> list = {
        {"read /etc/shadow",
         [](Taken& p, const Situation&) { return open_at(p, AT_FDCWD, "/etc/shadow", O_RDONLY); }, ENOENT, 0},
        {"read a file outside",
         [](Taken& p, const Situation& s) {
             return open_at(p, AT_FDCWD, s.tree.outside + "/secret", O_RDONLY);
         },
         ENOENT, 0},
        {"read outside through ..",
         [](Taken& p, const Situation& s) { return open_at(p, s.allowed, "../outside/secret", O_RDONLY); },
         ENOENT, 0},
        {"read procfs",
         [](Taken& p, const Situation&) { return open_at(p, AT_FDCWD, "/proc/self/status", O_RDONLY); },
         ENOENT, 0},
        {"write an allowed file",
         [](Taken& p, const Situation& s) { return open_at(p, s.allowed, "secret", O_WRONLY); }, EACCES, 0},
        {"create beside an allowed file",
         [](Taken& p, const Situation& s) { return open_at(p, s.allowed, "new", O_WRONLY | O_CREAT); }, EROFS,
         0},
        {"create in the root directory",
         [](Taken& p, const Situation& s) {
             return open_at(p, AT_FDCWD, s.tree.top / "new", O_WRONLY | O_CREAT);
         },
         EROFS, 0},
        {"open by the old call",
         [](Taken& p, const Situation& s) { return p.call(SYS_openat, {s.allowed, "secret", O_RDONLY}); },
         EPERM, 0},
        {"open by handle",
         [](Taken& p, const Situation&) { return p.call(SYS_open_by_handle_at, {-1, 0, 0}); }, EPERM, EFAULT},
        {"change an owner",
         [](Taken& p, const Situation& s) { return p.call(SYS_fchownat, {s.allowed, "secret", 1, 1, 0}); },
         EPERM, 0},
        {"change a mode",
         [](Taken& p, const Situation& s) { return p.call(SYS_fchmodat, {s.allowed, "secret", 0666}); },
         EPERM, 0},
        {"execute", [](Taken& p, const Situation&) { return p.call(SYS_execve, {"/nonexistent", 0, 0}); },
         EPERM, ENOENT},
        {"execute what it holds",
         [](Taken& p, const Situation& s) {
             return p.call(SYS_execveat, {s.allowed, "", 0, 0, AT_EMPTY_PATH});
         },
         EPERM, EACCES},
        {"a file in memory", [](Taken& p, const Situation&) { return p.call(SYS_memfd_create, {"code", 0}); },
         EPERM, 0},
        {"executable memory",
         [](Taken& p, const Situation&) {
             return p.call(SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0});
         },
         EPERM, 0},
        {"a socket", [](Taken& p, const Situation&) { return p.call(SYS_socket, {AF_INET, SOCK_STREAM, 0}); },
         EPERM, 0},
        {"connect", [](Taken& p, const Situation& s) { return p.call(SYS_connect, {s.allowed, 0, 0}); },
         EPERM, EBADF},
        {"a signal", [](Taken& p, const Situation& s) { return p.call(SYS_kill, {s.victim, 0}); }, EPERM, 0},
        {"another's limits",
         [](Taken& p, const Situation& s) {
             const rlimit none{.rlim_cur = 1000, .rlim_max = 1000};
             return p.call(SYS_prlimit64, {s.victim, RLIMIT_NPROC, InjectedArgument::bytes_of(none), 0});
         },
         EPERM, 0},
        {"trace",
         [](Taken& p, const Situation& s) { return p.call(SYS_ptrace, {PTRACE_CONT, s.victim, 0, 0}); },
         EPERM, ESRCH},
        {"become root", [](Taken& p, const Situation&) { return p.call(SYS_setuid, {0}); }, EPERM, 0},
        {"a namespace", [](Taken& p, const Situation&) { return p.call(SYS_unshare, {0}); }, EPERM, 0},
        {"mount",
         [](Taken& p, const Situation&) {
             return p.call(SYS_mount, {"none", "/nonexistent", "tmpfs", 0, 0});
         },
         EPERM, ENOENT},
        {"change the root", [](Taken& p, const Situation&) { return p.call(SYS_chroot, {"/"}); }, EPERM, 0},
        {"a process", [](Taken& p, const Situation&) { return p.call(SYS_clone3, {0, 0}); }, EPERM, EINVAL},
        {"io_uring", [](Taken& p, const Situation&) { return p.call(SYS_io_uring_setup, {0, 0}); }, EPERM,
         EFAULT},
        {"be dumpable",
         [](Taken& p, const Situation&) { return p.call(SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}); }, EPERM,
         0},
    };
    return list;
}

int errno_of(long result) {
    return result < 0 ? static_cast<int>(-result) : 0;
}

}  // namespace

TEST_CASE(
    "broker: made to try, it can reach, change, start and signal nothing outside its rules' directories") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    FDBROKER_SKIP_UNLESS(SyscallInjector::is_supported(), "only x86-64 can inject system calls");
    const DescriptorTable before = DescriptorTable::now();
    {
        const Tree tree;
        Process opener = start_opener(tree);
        const Bystander twin(tree.allowed);
        const Bystander victim(tree.allowed);
        const pid_t broker = broker_of(opener);
        const Situation inside{tree, descriptor_of(tree.allowed, broker), victim.pid()};
        const Situation outside{tree, descriptor_of(tree.allowed, twin.pid()), victim.pid()};
        {
            SyscallInjector taken_over(broker);
            SyscallInjector unconfined(twin.pid());
            CHECK(errno_of(open_at(taken_over, inside.allowed, "secret", O_RDONLY | O_CLOEXEC)) == 0);
            for (const Attempt& attempt : attempts()) {
                CAPTURE(attempt.name);
                CHECK(errno_of(attempt.make(taken_over, inside)) == attempt.in_the_broker);
                CHECK(errno_of(attempt.make(unconfined, outside)) == attempt.in_the_twin);
            }
        }
        // The broker serves as before.
        const Outcome served =
            run({.arguments = {worker_program(), "--socket", tree.socket, "cat", tree.allowed + "/secret"},
                 .identity = Identity{.uid = some_user, .gid = some_user}});
        CHECK(served.out == "secret");
        opener.signal(SIGTERM);
        CHECK(opener.wait().status == 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

#ifdef __x86_64__
TEST_CASE("broker: made to use another architecture's calls, it ends, and the next generation serves") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const Tree tree;
    Process opener = start_opener(tree);
    const pid_t broker = broker_of(opener);
    const proto::UniqueFd end(static_cast<int>(::syscall(SYS_pidfd_open, broker, 0)));
    {
        constexpr long x32 = 0x40000000;
        // The signal comes when the call has returned and the process goes on.
        SyscallInjector(broker).call(x32 | SYS_getpid);
    }
    wait_readable(end.borrow());
    const Outcome served =
        run({.arguments = {worker_program(), "--socket", tree.socket, "cat", tree.allowed + "/secret"},
             .identity = Identity{.uid = some_user, .gid = some_user}});
    CHECK(served.out == "secret");
    CHECK(broker_of(opener) != broker);
}
#endif

}  // namespace fdbroker::test
