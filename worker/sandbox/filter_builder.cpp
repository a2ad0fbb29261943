// SPDX-License-Identifier: MIT
#include "worker/sandbox/filter_builder.hpp"

#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)  // Linux 5.19
#endif

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;
using proto::UniqueFd;

constexpr std::uint64_t low_word = 0xffffffff;

// The result of seccomp(2).
Result<long> enter(std::span<const sock_filter> code, unsigned long flags) {
    const sock_fprog program{.len = static_cast<unsigned short>(code.size()),
                             .filter = const_cast<sock_filter*>(code.data())};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("no_new_privs");
    const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (result < 0) return system_error("seccomp", "load the filter");
    return result;
}

constexpr std::array harmless{
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
    // Identity and machine
    "getpid", "gettid", "getppid", "getpgrp", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getgroups", "capget", "uname", "sysinfo", "getrusage", "getrandom", "umask"};

}  // namespace

scmp_arg_cmp is(unsigned argument, unsigned value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = low_word, .datum_b = value};
}

scmp_arg_cmp has_none(unsigned argument, unsigned bits) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = 0};
}

FilterBuilder::FilterBuilder(std::uint32_t otherwise, std::uint32_t foreign)
    : rules_{.otherwise = otherwise, .foreign = foreign} {
    rules_.rules.reserve(512);
}

void FilterBuilder::add(std::uint32_t action, const char* name, std::span<const scmp_arg_cmp> comparisons) {
    const int number = ::seccomp_syscall_resolve_name(name);
    // Younger than this libseccomp, or none of this architecture, for which libseccomp has numbers below 0.
    if (number < 0) return;
    rules_.rules.push_back({.number = static_cast<unsigned>(number),
                            .action = action,
                            .comparisons = {comparisons.begin(), comparisons.end()}});
}

Result<void> FilterBuilder::load() {
    if (const auto entered = enter(program(), noted_ ? SECCOMP_FILTER_FLAG_LOG : 0); !entered)
        return std::unexpected(entered.error());
    return {};
}

Result<UniqueFd> FilterBuilder::load_with_listener() {
    constexpr unsigned long listener = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    const std::vector<sock_filter> code = program();
    auto descriptor = enter(code, listener | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    if (!descriptor && descriptor.error().errno_value == EINVAL) descriptor = enter(code, listener);
    if (!descriptor) return std::unexpected(descriptor.error());
    return UniqueFd(static_cast<int>(*descriptor));
}

std::span<const char* const> harmless_calls() {
    return harmless;
}

void allow_clone(FilterBuilder& builder) {
    constexpr unsigned refused_clone_flags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                             CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PARENT |
                                             CLONE_PTRACE;
#if defined(__s390__)
    constexpr unsigned clone_flags_argument = 1;  // clone(2), "C library/kernel differences"
#else
    constexpr unsigned clone_flags_argument = 0;
#endif
    builder.allow("clone", {has_none(clone_flags_argument, refused_clone_flags)});
    builder.refuse("clone3", ENOSYS);  // the flags lie in memory, out of a filter's sight
}

}  // namespace fdbroker::worker
