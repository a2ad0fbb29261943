// SPDX-License-Identifier: MIT
#include "worker/sandbox/filter.hpp"

#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;

using Context = std::unique_ptr<void, decltype([](scmp_filter_ctx context) { ::seccomp_release(context); })>;

// Allowed whatever the arguments. By name, because not every architecture, nor every libseccomp, knows each of them.
constexpr std::array always_allowed{
    // Open descriptors
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
    "lseek", "close", "close_range", "dup", "dup2", "dup3", "fstat", "fstatfs", "fsync", "fdatasync",
    "sync_file_range", "ftruncate", "fallocate", "fadvise64", "readahead", "flock", "sendfile",
    "copy_file_range", "splice", "tee", "vmsplice",
    // Waiting, and descriptors that stand for nothing outside this process
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create",
    "timerfd_settime", "timerfd_gettime", "pipe", "pipe2", "memfd_create",
    // Sockets that exist; accept makes one only out of a listener that was made before
    "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4", "shutdown", "getsockname", "getpeername",
    // Memory
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mlock", "mlock2", "munlock",
    "mincore",
    // Threads
    "futex", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "set_robust_list", "rseq",
    "set_tid_address", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
    "membarrier", "getcpu", "exit", "exit_group", "wait4", "waitid", "restart_syscall",
    // Signals to oneself
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigpending", "rt_sigtimedwait",
    "sigaltstack", "pause",
    // Time
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "alarm",
    "setitimer", "getitimer", "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun",
    "timer_delete",
    // Who and where one is
    "getpid", "gettid", "getppid", "getpgrp", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getgroups", "capget", "uname", "sysinfo", "getrusage", "getrandom", "umask"};

constexpr std::uint64_t low_word = 0xffffffff;

// The kernel looks at the low 32 bits of an int alone, so the filter does.
scmp_arg_cmp is(unsigned argument, unsigned value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = low_word, .datum_b = value};
}

class Builder {
  public:
    explicit Builder(Context context) : context_(std::move(context)) {}

    void allow(const char* name) { add(SCMP_ACT_ALLOW, name, {}); }
    void allow(const char* name, std::initializer_list<scmp_arg_cmp> comparisons) {
        add(SCMP_ACT_ALLOW, name, comparisons);
    }
    // Allowed when the argument is one of the values.
    void allow_values(const char* name, unsigned argument, std::initializer_list<unsigned> values) {
        for (const unsigned value : values) allow(name, {is(argument, value)});
    }
    void trap(const char* name, std::initializer_list<scmp_arg_cmp> comparisons) {
        add(SCMP_ACT_TRAP, name, comparisons);
    }
    void refuse(const char* name, int error) { add(SCMP_ACT_ERRNO(static_cast<unsigned>(error)), name, {}); }

    void set(scmp_filter_attr attribute, std::uint32_t value) {
        check(::seccomp_attr_set(context_.get(), attribute, value));
    }

    Result<void> load() {
        if (error_ == 0) check(::seccomp_load(context_.get()));
        if (error_ != 0) return system_error("seccomp", "load the filter", error_);
        return {};
    }

  private:
    void add(std::uint32_t action, const char* name, std::span<const scmp_arg_cmp> comparisons) {
        const int number = ::seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR) return;  // younger than this libseccomp: stays refused
        check(::seccomp_rule_add_array(context_.get(), action, number,
                                       static_cast<unsigned>(comparisons.size()), comparisons.data()));
    }
    void check(int result) {
        if (result < 0 && error_ == 0) error_ = -result;
    }

    Context context_;
    int error_ = 0;  // the first that occurred
};

void allow_descriptor_controls(Builder& builder) {
    // Neither F_SETOWN nor F_SETSIG, which send signals, nor F_NOTIFY, nor leases.
    builder.allow_values(
        "fcntl", 1,
        {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
         F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS});
    // Nothing that types into a terminal (TIOCSTI) or changes a file's flags (FS_IOC_SETFLAGS).
    builder.allow_values("ioctl", 1, {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX});
}

void allow_socket_controls(Builder& builder) {
    // MSG_FASTOPEN is a connect(2) that Landlock is not asked about.
    const auto no_connection = [](unsigned argument) {
        return scmp_arg_cmp{.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = MSG_FASTOPEN, .datum_b = 0};
    };
    builder.allow("sendmsg", {no_connection(2)});
    builder.allow("sendmmsg", {no_connection(3)});
    // Without an address: sendto on a datagram socket reaches any path.
    builder.allow("sendto", {no_connection(3), {.arg = 4, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0}});
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVBUF, SO_SNDBUF, SO_KEEPALIVE, SO_LINGER}) {
        builder.allow("setsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
        builder.allow("getsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
    }
    // What a socket is and who is there; not SO_PEERPIDFD, which opens something.
    for (const int option : {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN, SO_PEERCRED})
        builder.allow("getsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
    for (const char* name : {"setsockopt", "getsockopt"})
        builder.allow(name, {is(1, IPPROTO_TCP), is(2, TCP_NODELAY)});
}

void allow_process_controls(Builder& builder, Signals signals) {
    // Threads and fork, into no new namespace and under no other parent.
    constexpr unsigned refused_clone_flags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                             CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PARENT |
                                             CLONE_PTRACE;
#if defined(__s390__)
    constexpr unsigned clone_flags_argument = 1;  // clone(2), "C library/kernel differences"
#else
    constexpr unsigned clone_flags_argument = 0;
#endif
    builder.allow("clone", {{.arg = clone_flags_argument,
                             .op = SCMP_CMP_MASKED_EQ,
                             .datum_a = refused_clone_flags,
                             .datum_b = 0}});
    builder.refuse("clone3", ENOSYS);  // its flags lie in memory, out of a filter's sight
    // Never those that make the process dumpable, trace, or set limits of another one.
    builder.allow_values(
        "prctl", 0,
        {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_VMA});
    builder.allow("prlimit64", {is(0, 0)});
    builder.allow("getrlimit");
    builder.allow("setrlimit");
    if (signals == Signals::landlock) {
        for (const char* name : {"kill", "tkill", "tgkill"}) builder.allow(name);
    } else {
        const auto self = static_cast<unsigned>(::getpid());
        builder.allow("kill", {is(0, self)});
        builder.allow("tgkill", {is(0, self)});
    }
}

}  // namespace

Result<void> filter_available() {
    std::uint32_t action = SECCOMP_RET_ERRNO;
    if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return {};
    return system_error("seccomp");
}

Result<void> enter_filter(Signals signals, Fstat fstat) {
    Context context(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
    if (!context) return system_error("seccomp", "make a filter", ENOMEM);
    Builder builder(std::move(context));
    builder.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    builder.set(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a binary tree instead of a chain of 150 comparisons
    for (const char* name : always_allowed) builder.allow(name);
    allow_descriptor_controls(builder);
    allow_socket_controls(builder);
    allow_process_controls(builder, signals);
    if (fstat == Fstat::served) builder.trap("newfstatat", {is(3, AT_EMPTY_PATH)});
    return builder.load();
}

}  // namespace fdbroker::worker
