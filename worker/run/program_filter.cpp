// SPDX-License-Identifier: MIT
#include "worker/run/program_filter.hpp"

#include <asm/termbits.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "worker/sandbox/filter_builder.hpp"

namespace fdbroker::worker {
namespace {

// Each is a handler's (call_table.cpp), or refused there.
constexpr std::array answered{
    "open",         "openat",       "openat2",    "creat",     "stat",       "lstat",      "fstat",
    "newfstatat",   "statx",        "access",     "faccessat", "faccessat2", "readlink",   "readlinkat",
    "mkdir",        "mkdirat",      "unlink",     "unlinkat",  "rmdir",      "rename",     "renameat",
    "renameat2",    "symlink",      "symlinkat",  "link",      "linkat",     "mknod",      "mknodat",
    "truncate",     "chmod",        "fchmod",     "fchmodat",  "fchmodat2",  "chown",      "lchown",
    "fchown",       "fchownat",     "utime",      "utimes",    "futimesat",  "utimensat",  "getxattr",
    "lgetxattr",    "listxattr",    "llistxattr", "setxattr",  "lsetxattr",  "fsetxattr",  "removexattr",
    "lremovexattr", "fremovexattr", "statfs",     "chdir",     "getdents",   "getdents64", "execve",
    "execveat"};

// Calls on open descriptors, on this process and those that it started: the pid namespace holds nobody else.
constexpr std::array more_harmless{"fgetxattr",
                                   "flistxattr",
                                   "fchdir",
                                   "getcwd",
                                   "fork",
                                   "vfork",
                                   "kill",
                                   "tkill",
                                   "tgkill",
                                   "pidfd_open",
                                   "pidfd_send_signal",
                                   "rt_sigqueueinfo",
                                   "rt_tgsigqueueinfo",
                                   "setsid",
                                   "getsid",
                                   "setpgid",
                                   "getpgid",
                                   "getpriority",
                                   "setpriority",
                                   "sched_setaffinity",
                                   "sched_setscheduler",
                                   "sched_setparam",
                                   "sched_get_priority_max",
                                   "sched_get_priority_min",
                                   "sched_rr_get_interval",
                                   "sched_getattr",
                                   "sched_setattr",
                                   "ioprio_get",
                                   "ioprio_set",
                                   "getrlimit",
                                   "setrlimit",
                                   "prlimit64",
                                   "arch_prctl",
                                   "personality",
                                   "setuid",
                                   "setgid",
                                   "setreuid",
                                   "setregid",
                                   "setresuid",
                                   "setresgid",
                                   "setfsuid",
                                   "setfsgid",
                                   "setgroups",
                                   "capset",
                                   "get_robust_list",
                                   "munlockall",
                                   "mlockall",
                                   "process_madvise",
                                   "mbind",
                                   "get_mempolicy",
                                   "set_mempolicy",
                                   "pkey_alloc",
                                   "pkey_free",
                                   "pkey_mprotect",
                                   "seccomp",
                                   "socketpair",
                                   "bind",
                                   "connect",
                                   "listen",
                                   "sendto",
                                   "sendmsg",
                                   "sendmmsg",
                                   "setsockopt",
                                   "getsockopt",
                                   "sync",
                                   "syncfs",
                                   "shmget",
                                   "shmat",
                                   "shmdt",
                                   "shmctl",
                                   "semget",
                                   "semop",
                                   "semtimedop",
                                   "semctl",
                                   "msgget",
                                   "msgsnd",
                                   "msgrcv",
                                   "msgctl",
                                   "inotify_rm_watch",
                                   "cachestat"};

// Told apart from what a kernel lacks: programs take ENOSYS for a reason to do without, EPERM for one to give up.
constexpr std::array refused{"ptrace",
                             "process_vm_readv",
                             "process_vm_writev",
                             "pidfd_getfd",
                             "kcmp",
                             "mount",
                             "umount2",
                             "chroot",
                             "pivot_root",
                             "setns",
                             "unshare",
                             "sethostname",
                             "reboot",
                             "swapon",
                             "swapoff",
                             "acct",
                             "settimeofday",
                             "clock_settime",
                             "adjtimex",
                             "syslog",
                             "userfaultfd",
                             "perf_event_open",
                             "bpf",
                             "open_by_handle_at"};

void allow_controls(FilterBuilder& builder) {
    // Nothing that types into a terminal: ioctl_tty(2). The request is an int to the kernel's eyes as well.
    constexpr unsigned type_into_selection = 0x541c;  // TIOCLINUX
    builder.refuse("ioctl", EPERM, {is(1, TIOCSTI)});
    builder.refuse("ioctl", EPERM, {is(1, type_into_selection)});
    builder.allow("ioctl");
    builder.allow("fcntl");
    builder.allow("prctl");
}

void allow_sockets(FilterBuilder& builder, Network network, LocalSockets local) {
    if (network == Network::none) {
        if (local == LocalSockets::none) return builder.refuse("socket", EAFNOSUPPORT);
        builder.allow("socket", {is(0, AF_UNIX)});
        return builder.refuse("socket", EAFNOSUPPORT);
    }
    for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK})
        builder.allow("socket", {is(0, static_cast<unsigned>(family))});
}

}  // namespace

proto::Result<proto::UniqueFd> enter_program_filter(Network network, LocalSockets local) {
    FilterBuilder builder(SCMP_ACT_ERRNO(ENOSYS), SCMP_ACT_ERRNO(ENOSYS));
    builder.allow_all(harmless_calls());
    builder.allow_all(more_harmless);
    for (const char* name : answered) builder.notify(name);
    for (const char* name : refused) builder.refuse(name, EPERM);
    allow_controls(builder);
    allow_sockets(builder, network, local);
    allow_clone(builder);
    return builder.load_with_listener();
}

}  // namespace fdbroker::worker
