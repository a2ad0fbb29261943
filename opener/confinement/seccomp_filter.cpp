// SPDX-License-Identifier: MIT
#include "opener/confinement/seccomp_filter.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "opener/confinement/kernel_calls.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

namespace {

using proto::Result;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FDBROKER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define FDBROKER_SANITIZER 1
#endif
#endif

// The calls of a broker between two requests and for a request that reads. No call here takes a path but openat2,
// readlinkat and statx, which the private root holds; none makes a socket, a process or code.
constexpr int always[] = {
    SCMP_SYS(openat2),
    SCMP_SYS(close),
    SCMP_SYS(readlinkat),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(statx),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(geteuid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
#ifdef FDBROKER_SANITIZER
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getrusage),
#endif
};

constexpr std::uint64_t low_32_bits = 0xffffffff;

// The kernel sees the low half of an int argument; the other half is no matter.
scmp_arg_cmp int_is(unsigned argument, int value) {
    return {.arg = argument,
            .op = SCMP_CMP_MASKED_EQ,
            .datum_a = low_32_bits,
            .datum_b = static_cast<std::uint64_t>(value) & low_32_bits};
}
scmp_arg_cmp bits_clear(unsigned argument, std::uint64_t bits) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = 0};
}
scmp_arg_cmp bits_set(unsigned argument, std::uint64_t bits) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = bits};
}
scmp_arg_cmp is_null(unsigned argument) {
    return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0};
}

// The call works on the descriptor. AT_EMPTY_PATH alone says only that it may.
scmp_arg_cmp names_nothing(unsigned argument) {
    return {.arg = argument,
            .op = SCMP_CMP_EQ,
            .datum_a = reinterpret_cast<std::uintptr_t>(&kernel::no_path),
            .datum_b = 0};
}

class Filter {
  public:
    Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release) {}

    void allow(std::span<const int> calls) {
        for (const int call : calls) allow(call, {});
    }
    void allow(std::initializer_list<int> calls) { allow(std::span(calls.begin(), calls.size())); }
    void allow(int call, std::initializer_list<scmp_arg_cmp> conditions) {
        keep_first_error(seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call,
                                                static_cast<unsigned>(conditions.size()),
                                                conditions.begin()));
    }

    Result<void> load() {
        if (!context_) return proto::system_error("seccomp_init", {}, ENOMEM);
        keep_first_error(seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
        // A tree instead of a chain: calls that are allowed on conditions are not in the kernel's cache of answers.
        keep_first_error(seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));
        // Else the kernel's errno would be replaced by ECANCELED.
        keep_first_error(seccomp_attr_set(context_.get(), SCMP_FLTATR_API_SYSRAWRC, 1));
        if (error_ == 0) error_ = seccomp_load(context_.get());
        if (error_ != 0) return proto::system_error("seccomp_load", {}, -error_);
        return {};
    }

  private:
    void keep_first_error(int result) noexcept {
        if (error_ == 0 && result < 0) error_ = result;
    }

    std::unique_ptr<void, decltype(&seccomp_release)> context_;
    int error_ = 0;
};

void allow_with_conditions(Filter& filter) {
    // Memory that can be executed is how injected code would come to run.
    filter.allow(SCMP_SYS(mmap), {bits_clear(2, PROT_EXEC)});
    filter.allow(SCMP_SYS(mprotect), {bits_clear(2, PROT_EXEC)});
    filter.allow(SCMP_SYS(newfstatat), {bits_set(3, AT_EMPTY_PATH)});
    for (const int command : {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS}) {
        filter.allow(SCMP_SYS(fcntl), {int_is(1, command)});
    }
    filter.allow(SCMP_SYS(ioctl), {int_is(1, SIOCOUTQ)});  // how much a peer has not read yet
    for (const int call : {SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity)})
        filter.allow(call, {int_is(0, 0)});
    filter.allow(SCMP_SYS(tgkill), {int_is(0, ::getpid())});  // abort(3)
#ifdef FDBROKER_SANITIZER
    // By a pipe the run-time finds out whether an address can be read before it looks at the type of an object there.
    filter.allow({SCMP_SYS(pipe)});
    filter.allow(SCMP_SYS(pipe2), {int_is(1, 0)});
#endif
}

void allow_modifying(Filter& filter, const ModifyingCalls& calls) {
    if (calls.truncate) filter.allow({SCMP_SYS(ftruncate)});
    // An O_TMPFILE gets its name by its descriptor, never an existing file a second one by its name.
    if (calls.create) filter.allow(SCMP_SYS(linkat), {names_nothing(1), bits_set(4, AT_EMPTY_PATH)});
    if (calls.give_away) filter.allow({SCMP_SYS(fchown)});
    if (calls.set_attributes) {
        filter.allow(SCMP_SYS(fchmod), {bits_clear(1, S_ISUID | S_ISGID)});
        filter.allow(SCMP_SYS(utimensat), {is_null(1)});  // futimens(3)
        // A link, which only O_PATH opens.
        filter.allow(SCMP_SYS(utimensat), {names_nothing(1), bits_set(3, AT_EMPTY_PATH)});
    }
    if (calls.list) {
        filter.allow({SCMP_SYS(getdents64)});
        filter.allow(SCMP_SYS(ioctl), {int_is(1, static_cast<int>(FS_IOC_GETFLAGS))});  // name_matching.hpp
    }
    if (calls.snapshot) {
        filter.allow({SCMP_SYS(memfd_create)});
        for (const int command : {F_ADD_SEALS, F_GETLEASE})
            filter.allow(SCMP_SYS(fcntl), {int_is(1, command)});
    }
    if (calls.snapshot || calls.put) filter.allow(SCMP_SYS(fcntl), {int_is(1, F_SETLEASE)});
    if (calls.put) filter.allow({SCMP_SYS(fsync), SCMP_SYS(copy_file_range)});
    if (calls.stream || calls.watch) filter.allow({SCMP_SYS(pipe2)});
    if (calls.watch) {
        // inotify takes paths alone: those of the private root, of which stat tells as much.
        filter.allow({SCMP_SYS(inotify_init1), SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch),
                      SCMP_SYS(fchdir)});
        filter.allow(SCMP_SYS(fcntl), {int_is(1, F_SETPIPE_SZ)});
    }
    if (calls.make_directories) filter.allow({SCMP_SYS(mkdirat)});
    if (calls.remove) filter.allow({SCMP_SYS(unlinkat)});
    if (calls.rename) filter.allow({SCMP_SYS(renameat2)});
    if (calls.symlink) {
        filter.allow({SCMP_SYS(symlinkat)});
        if (calls.give_away) filter.allow(SCMP_SYS(fchownat), {names_nothing(1), bits_set(4, AT_EMPTY_PATH)});
    }
    if (calls.extended_attributes) {
        filter.allow(
            {SCMP_SYS(fgetxattr), SCMP_SYS(fsetxattr), SCMP_SYS(flistxattr), SCMP_SYS(fremovexattr)});
    }
}

// fork(3) is clone(2) with these flags alone; the order of clone's arguments is that of all but s390.
constexpr std::uint64_t fork_flags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | 0xff;

void allow_making_helpers(Filter& filter) {
    filter.allow(SCMP_SYS(clone), {bits_clear(0, ~fork_flags & low_32_bits)});
    filter.allow(SCMP_SYS(socketpair), {int_is(0, AF_UNIX)});
    filter.allow(SCMP_SYS(setsockopt), {int_is(1, SOL_SOCKET), int_is(2, proto::so_passrights)});
    filter.allow({SCMP_SYS(seccomp), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(close_range)});
    for (const int option : {PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_SECCOMP}) {
        filter.allow(SCMP_SYS(prctl), {int_is(0, option)});
    }
}

}  // namespace

bool is_missing_seccomp(const proto::Error& error) noexcept {
    const int why = error.errno_value;
    return why == ENOSYS || why == EINVAL || why == EPERM || why == EACCES;
}

Result<void> install_seccomp_filter(FilterFor whom, const ModifyingCalls& calls) {
    // EFAULT, since there is no filter at null, where filters are known and permitted: seccomp(2). libseccomp does
    // not say as clearly why it could not load one.
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr) != 0 && errno != EFAULT) {
        return proto::system_error("prctl", "PR_SET_SECCOMP");
    }
    Filter filter;
    filter.allow(always);
    allow_with_conditions(filter);
    // The loop does nothing that waits for a disk, and so makes none of these.
    if (whom != FilterFor::broker) allow_modifying(filter, calls);
    if (whom == FilterFor::zygote) allow_making_helpers(filter);
    return filter.load();
}

}  // namespace fdbroker::opener
