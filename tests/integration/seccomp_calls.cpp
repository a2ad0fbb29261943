// SPDX-License-Identifier: MIT
#include "tests/integration/seccomp_calls.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <vector>

#include "tests/integration/confinement_support.hpp"

namespace fdbroker::test {

Things::Things() {
    write_file(path, "text");
    directory = proto::UniqueFd(::open(top.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    file = proto::UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    epoll = proto::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    event = proto::UniqueFd(::eventfd(1, EFD_CLOEXEC));
    timer = proto::UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    socket = proto::UniqueFd(ends[0]);
    peer = proto::UniqueFd(ends[1]);
}

const std::vector<Call>& forbidden_calls() {
    static const std::vector<Call> calls = {
        {"open", [](const Things& t) { return raw(SYS_openat, AT_FDCWD, t.path.c_str(), O_RDONLY); }},
        {"open for writing",
         [](const Things& t) { return raw(SYS_openat, AT_FDCWD, t.path.c_str(), O_RDWR); }},
#ifdef SYS_open
        {"old open", [](const Things& t) { return raw(SYS_open, t.path.c_str(), O_RDONLY); }},
        {"creat", [](const Things& t) { return raw(SYS_creat, t.other.c_str(), 0600); }},
        {"old chmod", [](const Things& t) { return raw(SYS_chmod, t.path.c_str(), 0600); }},
        {"old chown", [](const Things& t) { return raw(SYS_chown, t.path.c_str(), 0, 0); }},
        {"old unlink", [](const Things& t) { return raw(SYS_unlink, t.other.c_str()); }},
        {"old mkdir", [](const Things& t) { return raw(SYS_mkdir, t.other.c_str(), 0700); }},
        {"old link", [](const Things& t) { return raw(SYS_link, t.path.c_str(), (t.path + "2").c_str()); }},
#endif
        {"open_by_handle_at", [](const Things&) { return raw(SYS_open_by_handle_at, -1, nullptr, 0); }},
        {"name_to_handle_at",
         [](const Things&) { return raw(SYS_name_to_handle_at, -1, "", nullptr, nullptr, 0); }},
        {"execve", [](const Things&) { return raw(SYS_execve, "/nonexistent", nullptr, nullptr); }},
        {"execveat",
         [](const Things& t) {
             return raw(SYS_execveat, t.file.number(), "", nullptr, nullptr, AT_EMPTY_PATH);
         }},
        {"clone", [](const Things&) { return raw(SYS_clone, CLONE_THREAD, 0, 0, 0, 0); }},
        {"clone3", [](const Things&) { return raw(SYS_clone3, nullptr, 0); }},
        {"socket", [](const Things&) { return raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
        {"inet socket", [](const Things&) { return raw(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
        {"socketpair", [](const Things&) { return raw(SYS_socketpair, AF_UNIX, SOCK_STREAM, 99, nullptr); }},
        {"connect", [](const Things& t) { return raw(SYS_connect, t.file.number(), nullptr, 0); }},
        {"bind", [](const Things& t) { return raw(SYS_bind, t.file.number(), nullptr, 0); }},
        {"listen", [](const Things& t) { return raw(SYS_listen, t.file.number(), 1); }},
        {"accept4", [](const Things& t) { return raw(SYS_accept4, t.file.number(), nullptr, nullptr, 0); }},
        {"setsockopt",
         [](const Things& t) { return raw(SYS_setsockopt, t.file.number(), 0, 0, nullptr, 0); }},
        {"kill", [](const Things&) { return raw(SYS_kill, ::getpid(), 0); }},
        {"kill the parent", [](const Things&) { return raw(SYS_kill, ::getppid(), 0); }},
        {"tkill", [](const Things&) { return raw(SYS_tkill, ::getpid(), 0); }},
        {"tgkill another", [](const Things&) { return raw(SYS_tgkill, ::getppid(), ::getppid(), 0); }},
        {"rt_sigqueueinfo", [](const Things&) { return raw(SYS_rt_sigqueueinfo, ::getpid(), 0, nullptr); }},
        {"pidfd_open", [](const Things&) { return raw(SYS_pidfd_open, ::getpid(), 0); }},
        {"pidfd_getfd", [](const Things& t) { return raw(SYS_pidfd_getfd, t.file.number(), 0, 0); }},
        {"pidfd_send_signal",
         [](const Things& t) { return raw(SYS_pidfd_send_signal, t.file.number(), 0, nullptr, 0); }},
        {"ptrace", [](const Things&) { return raw(SYS_ptrace, PTRACE_CONT, ::getppid(), 0, 0); }},
        {"process_vm_readv",
         [](const Things&) { return raw(SYS_process_vm_readv, ::getpid(), nullptr, 0, nullptr, 0, 0); }},
        {"process_vm_writev",
         [](const Things&) { return raw(SYS_process_vm_writev, ::getpid(), nullptr, 0, nullptr, 0, 0); }},
        {"io_uring_setup", [](const Things&) { return raw(SYS_io_uring_setup, 1, nullptr); }},
        {"bpf", [](const Things&) { return raw(SYS_bpf, 9999, nullptr, 0); }},
        {"perf_event_open", [](const Things&) { return raw(SYS_perf_event_open, nullptr, 0, 0, 0, 0); }},
        {"userfaultfd", [](const Things&) { return raw(SYS_userfaultfd, ~0); }},
        {"keyctl", [](const Things&) { return raw(SYS_keyctl, KEYCTL_CLEAR, 0); }},
        {"memfd_create", [](const Things&) { return raw(SYS_memfd_create, "m", MFD_CLOEXEC); }},
        {"pipe2",
         [](const Things&) {
             int ends[2];
             return raw(SYS_pipe2, ends, O_CLOEXEC);
         }},
        {"chmod", [](const Things& t) { return raw(SYS_fchmodat, AT_FDCWD, t.path.c_str(), 0600); }},
        {"fchmod", [](const Things& t) { return raw(SYS_fchmod, t.file.number(), 0600); }},
        {"chown", [](const Things& t) { return raw(SYS_fchownat, AT_FDCWD, t.path.c_str(), 0, 0, 0); }},
        {"fchownat of a descriptor",
         [](const Things& t) { return raw(SYS_fchownat, t.file.number(), "", 0, 0, AT_EMPTY_PATH); }},
        {"fchown", [](const Things& t) { return raw(SYS_fchown, t.file.number(), 0, 0); }},
        {"utimensat",
         [](const Things& t) { return raw(SYS_utimensat, AT_FDCWD, t.path.c_str(), nullptr, 0); }},
        {"utimensat of a descriptor",
         [](const Things& t) { return raw(SYS_utimensat, t.file.number(), "", nullptr, AT_EMPTY_PATH); }},
        {"futimens",
         [](const Things& t) { return raw(SYS_utimensat, t.file.number(), nullptr, nullptr, 0); }},
        {"truncate", [](const Things& t) { return raw(SYS_truncate, t.path.c_str(), 4); }},
        {"ftruncate", [](const Things& t) { return raw(SYS_ftruncate, t.file.number(), 4); }},
        {"fallocate", [](const Things& t) { return raw(SYS_fallocate, t.file.number(), 0, 0, 4); }},
        {"setxattr", [](const Things& t) { return raw(SYS_setxattr, t.path.c_str(), "user.a", "", 0, 0); }},
        {"fsetxattr",
         [](const Things& t) { return raw(SYS_fsetxattr, t.file.number(), "user.a", "", 0, 0); }},
        {"removexattr", [](const Things& t) { return raw(SYS_removexattr, t.path.c_str(), "user.a"); }},
        {"mkdirat", [](const Things& t) { return raw(SYS_mkdirat, AT_FDCWD, (t.path + "d").c_str(), 0700); }},
        {"mknodat",
         [](const Things& t) {
             return raw(SYS_mknodat, AT_FDCWD, (t.path + "n").c_str(), S_IFIFO | 0600, 0);
         }},
        {"symlinkat",
         [](const Things& t) { return raw(SYS_symlinkat, "x", AT_FDCWD, (t.path + "s").c_str()); }},
        {"linkat",
         [](const Things& t) {
             return raw(SYS_linkat, AT_FDCWD, t.path.c_str(), AT_FDCWD, (t.path + "l").c_str(), 0);
         }},
        {"renameat2",
         [](const Things& t) {
             return raw(SYS_renameat2, AT_FDCWD, (t.path + "s").c_str(), AT_FDCWD, (t.path + "r").c_str(), 0);
         }},
        {"unlinkat", [](const Things& t) { return raw(SYS_unlinkat, AT_FDCWD, t.other.c_str(), 0); }},
        {"mount", [](const Things&) { return raw(SYS_mount, "none", "/nonexistent", "tmpfs", 0, nullptr); }},
        {"umount2", [](const Things&) { return raw(SYS_umount2, "/nonexistent", 0); }},
        {"open_tree", [](const Things& t) { return raw(SYS_open_tree, AT_FDCWD, t.path.c_str(), 0); }},
        {"move_mount", [](const Things&) { return raw(SYS_move_mount, -1, "", -1, "", 0); }},
        {"mount_setattr", [](const Things&) { return raw(SYS_mount_setattr, -1, "", 0, nullptr, 0); }},
        {"fsopen", [](const Things&) { return raw(SYS_fsopen, "nonexistent", 0); }},
        {"pivot_root", [](const Things&) { return raw(SYS_pivot_root, "/nonexistent", "/nonexistent"); }},
        {"chroot", [](const Things&) { return raw(SYS_chroot, "/"); }},
        {"chdir", [](const Things&) { return raw(SYS_chdir, "/"); }},
        {"unshare", [](const Things&) { return raw(SYS_unshare, 0); }},
        {"setns", [](const Things&) { return raw(SYS_setns, -1, 0); }},
        {"setuid", [](const Things&) { return raw(SYS_setuid, 0); }},
        {"setresuid", [](const Things&) { return raw(SYS_setresuid, 0, 0, 0); }},
        {"setresgid", [](const Things&) { return raw(SYS_setresgid, 0, 0, 0); }},
        {"setgroups", [](const Things&) { return raw(SYS_setgroups, 0, nullptr); }},
        {"capset", [](const Things&) { return raw(SYS_capset, nullptr, nullptr); }},
        {"prctl", [](const Things&) { return raw(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); }},
        {"seccomp", [](const Things&) { return raw(SYS_seccomp, 2, 0, nullptr); }},
        {"personality", [](const Things&) { return raw(SYS_personality, 0xffffffff); }},
        {"setrlimit",
         [](const Things&) {
             const rlimit limit{10, 10};
             return raw(SYS_setrlimit, RLIMIT_CORE, &limit);
         }},
        {"prlimit64", [](const Things&) { return raw(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, nullptr); }},
        {"setpriority", [](const Things&) { return raw(SYS_setpriority, PRIO_PROCESS, 0, 0); }},
        {"sched_setaffinity of another",
         [](const Things&) { return raw(SYS_sched_setaffinity, ::getppid(), 0, nullptr); }},
        {"sched_getaffinity of another",
         [](const Things&) { return raw(SYS_sched_getaffinity, ::getppid(), 0, nullptr); }},
        {"fcntl lease", [](const Things& t) { return raw(SYS_fcntl, t.file.number(), F_SETLEASE, F_UNLCK); }},
        {"fsync", [](const Things& t) { return raw(SYS_fsync, t.file.number()); }},
        {"copy_file_range",
         [](const Things& t) {
             return raw(SYS_copy_file_range, t.file.number(), nullptr, t.file.number(), nullptr, 0, 0);
         }},
        {"fcntl owner", [](const Things& t) { return raw(SYS_fcntl, t.socket.number(), F_SETOWN, 0); }},
        {"fcntl notify", [](const Things& t) { return raw(SYS_fcntl, t.directory.number(), F_NOTIFY, 0); }},
        {"ioctl", [](const Things& t) { return raw(SYS_ioctl, t.file.number(), 0, 0); }},
        {"mmap executable",
         [](const Things&) {
             return raw(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         }},
        {"mprotect executable", [](const Things&) { return raw(SYS_mprotect, nullptr, 0, PROT_EXEC); }},
        {"pkey_mprotect", [](const Things&) { return raw(SYS_pkey_mprotect, nullptr, 0, PROT_EXEC, -1); }},
        {"shmat", [](const Things&) { return raw(SYS_shmat, -1, nullptr, 0); }},
        {"fstatat by a name",
         [](const Things& t) {
             struct stat status;
             return raw(SYS_newfstatat, AT_FDCWD, t.path.c_str(), &status, 0);
         }},
        {"statfs", [](const Things& t) { return raw(SYS_statfs, t.path.c_str(), nullptr); }},
        {"access", [](const Things& t) { return raw(SYS_faccessat, AT_FDCWD, t.path.c_str(), F_OK); }},
        {"getdents64",
         [](const Things& t) {
             char block[512];
             return raw(SYS_getdents64, t.directory.number(), block, sizeof block);
         }},
        {"inotify_init1", [](const Things&) { return raw(SYS_inotify_init1, 0); }},
        {"inotify_add_watch",
         [](const Things& t) { return raw(SYS_inotify_add_watch, t.file.number(), ".", 1); }},
        {"inotify_rm_watch", [](const Things& t) { return raw(SYS_inotify_rm_watch, t.file.number(), 1); }},
        {"fchdir", [](const Things& t) { return raw(SYS_fchdir, t.directory.number()); }},
        {"fcntl pipe size", [](const Things& t) { return raw(SYS_fcntl, t.file.number(), F_SETPIPE_SZ, 1); }},
        {"fanotify_init", [](const Things&) { return raw(SYS_fanotify_init, ~0U, 0); }},
        {"swapon", [](const Things&) { return raw(SYS_swapon, "/nonexistent", 0); }},
        {"reboot", [](const Things&) { return raw(SYS_reboot, 0, 0, 0, nullptr); }},
        {"landlock_create_ruleset",
         [](const Things&) { return raw(SYS_landlock_create_ruleset, nullptr, 0, 1); }},
    };
    return calls;
}

const std::vector<Call>& needed_calls() {
    static const std::vector<Call> calls = {
        {"openat2",
         [](const Things& t) {
             return long{openat2_of(t.directory.number(), "file", O_RDONLY | O_CLOEXEC)};
         }},
        {"fstat",
         [](const Things& t) {
             struct stat status;
             return long{::fstat(t.file.number(), &status)};
         }},
        {"statx",
         [](const Things& t) {
             struct statx status;
             return long{::statx(t.file.number(), "", AT_EMPTY_PATH, STATX_MNT_ID, &status)};
         }},
        {"close",
         [](const Things& t) { return long{::close(::fcntl(t.file.number(), F_DUPFD_CLOEXEC, 0))}; }},
        {"fcntl",
         [](const Things& t) {
             return long{::fcntl(t.file.number(), F_SETFL, ::fcntl(t.file.number(), F_GETFL))};
         }},
        {"send", [](const Things& t) { return ::send(t.socket.number(), "x", 1, MSG_NOSIGNAL) - 1; }},
        {"receive",
         [](const Things& t) {
             char byte;
             return ::recv(t.peer.number(), &byte, 1, 0) - 1;
         }},
        {"getsockopt",
         [](const Things& t) {
             ucred peer;
             socklen_t size = sizeof peer;
             return long{::getsockopt(t.socket.number(), SOL_SOCKET, SO_PEERCRED, &peer, &size)};
         }},
        {"epoll_ctl",
         [](const Things& t) {
             epoll_event event{.events = EPOLLIN, .data = {}};
             return long{::epoll_ctl(t.epoll.number(), EPOLL_CTL_ADD, t.event.number(), &event)};
         }},
        {"epoll_wait",
         [](const Things& t) {
             epoll_event event;
             return long{::epoll_wait(t.epoll.number(), &event, 1, -1)} - 1;
         }},
        {"eventfd",
         [](const Things& t) {
             eventfd_t value;
             return long{::eventfd_read(t.event.number(), &value)};
         }},
        {"eventfd write", [](const Things& t) { return long{::eventfd_write(t.event.number(), 1)}; }},
        {"timerfd_settime",
         [](const Things& t) {
             const itimerspec never{};
             return long{::timerfd_settime(t.timer.number(), 0, &never, nullptr)};
         }},
        {"poll",
         [](const Things& t) {
             pollfd entry{t.event.number(), POLLIN, 0};
             return long{::poll(&entry, 1, -1)} - 1;
         }},
        {"mmap",
         [](const Things&) {
             void* const memory =
                 ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
             return memory == MAP_FAILED ? -1L : long{::munmap(memory, 1 << 20)};
         }},
        {"much memory",
         [](const Things&) {
             return std::vector<char>(std::size_t{64} << 20, 'x').back() == 'x' ? 0L : -1L;
         }},
        {"sched_getaffinity",
         [](const Things&) {
             cpu_set_t set;
             return long{::sched_getaffinity(0, sizeof set, &set)};
         }},
        {"sched_setaffinity",
         [](const Things&) {
             cpu_set_t set;
             CPU_ZERO(&set);
             for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &set);
             return long{::sched_setaffinity(0, sizeof set, &set)};
         }},
        {"nanosleep",
         [](const Things&) {
             const timespec nothing{};
             return long{::nanosleep(&nothing, nullptr)};
         }},
        {"getrandom",
         [](const Things&) {
             char byte;
             return raw(SYS_getrandom, &byte, 1, 0) - 1;
         }},
        {"sigaction",
         [](const Things&) {
             struct sigaction action{};
             action.sa_handler = SIG_IGN;
             return long{::sigaction(SIGUSR1, &action, nullptr)};
         }},
        {"shutdown", [](const Things& t) { return long{::shutdown(t.socket.number(), SHUT_RDWR)}; }},
        {"exceptions",
         [](const Things&) {
             try {
                 throw std::runtime_error("x");
             } catch (const std::exception&) {
                 return 0L;
             }
             return -1L;
         }},
    };
    return calls;
}

}  // namespace fdbroker::test
