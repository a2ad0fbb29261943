// SPDX-License-Identifier: MIT
// Ways out by the kernel's odder doors.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "worker/sandbox/escape_groups.hpp"

namespace fdbroker::worker {
namespace {

// Younger than the oldest headers that this is built with.
constexpr long lsm_list_modules_number = 461;  // Linux 6.8, on every architecture
#if defined(__x86_64__)
constexpr long map_shadow_stack_number = 453;  // Linux 6.6
#endif

constexpr Escape kernel_list[] = {
    {"make a user namespace",
     [](const EscapeScene&) -> long { return ::syscall(SYS_unshare, CLONE_NEWUSER); }},
    {"start a child in a user namespace",
     [](const EscapeScene&) -> long {
         const long child = ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
         if (child == 0) ::_exit(0);
         return child;
     }},
    {"start a child with clone3",
     [](const EscapeScene&) -> long {
         clone_args arguments{};
         arguments.exit_signal = SIGCHLD;
         const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
         if (child == 0) ::_exit(0);
         return child;
     }},
    {"enter a namespace it holds",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_setns, scene.network_namespace.number(), 0);
     }},
    {"use io_uring",
     [](const EscapeScene&) -> long {
         io_uring_params parameters{};
         return ::syscall(SYS_io_uring_setup, 1, &parameters);
     }},
    {"use bpf",
     [](const EscapeScene&) -> long {
         bpf_attr attributes{};
         attributes.map_type = BPF_MAP_TYPE_ARRAY;
         attributes.key_size = 4;
         attributes.value_size = 4;
         attributes.max_entries = 1;
         return ::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
     }},
    {"use a keyring",
     [](const EscapeScene&) -> long {
         return ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1);
     }},
    {"add a key",
     [](const EscapeScene&) -> long {
         return ::syscall(SYS_add_key, "user", "fdbroker-test", "x", 1, KEY_SPEC_PROCESS_KEYRING);
     }},
    {"count events of the processor",
     [](const EscapeScene&) -> long {
         perf_event_attr attributes{};
         attributes.size = sizeof attributes;
         attributes.type = PERF_TYPE_SOFTWARE;
         attributes.config = PERF_COUNT_SW_DUMMY;
         return ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
     }},
    {"handle page faults", [](const EscapeScene&) -> long { return ::syscall(SYS_userfaultfd, 1); }},
    {"change its personality", [](const EscapeScene&) -> long { return ::personality(0xffffffff); }},
    {"watch a whole filesystem",
     [](const EscapeScene&) -> long { return ::syscall(SYS_fanotify_init, 0, O_RDONLY); }},
    {"read the kernel's log",
     [](const EscapeScene&) -> long { return ::syscall(SYS_syslog, 9, nullptr, 0); }},
    {"rename the machine",
     [](const EscapeScene&) -> long {
         utsname name{};
         ::uname(&name);
         return ::sethostname(name.nodename, std::strlen(name.nodename));
     }},
    {"make memory that not even the kernel reads",
     [](const EscapeScene&) -> long { return ::syscall(SYS_memfd_secret, 0); }},
    {"queue input and output",
     [](const EscapeScene&) -> long {
         aio_context_t context = 0;
         return ::syscall(SYS_io_setup, 1, &context);
     }},
    {"adjust the clock",
     [](const EscapeScene&) -> long {
         timex times{};
         return ::adjtimex(&times);
     }},
    {"ask for a filesystem's quota",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_quotactl_fd, scene.directory.number(), QCMD(Q_SYNC, USRQUOTA), 0, nullptr);
     }},
    {"add a filter of its own",
     [](const EscapeScene&) -> long {
         std::uint32_t action = SECCOMP_RET_ALLOW;
         return ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
     }},
    {"ask which security modules there are",
     [](const EscapeScene&) -> long {
         std::array<std::uint64_t, 32> ids{};
         std::uint32_t size = sizeof ids;
         return ::syscall(lsm_list_modules_number, ids.data(), &size, 0);
     }},
    {"choose where its memory lies",
     [](const EscapeScene&) -> long { return ::syscall(SYS_set_mempolicy, 0, nullptr, 0); }},
#if defined(__x86_64__)
    {"read its segments",
     [](const EscapeScene&) -> long {
         std::array<char, 64> entries{};
         return ::syscall(SYS_modify_ldt, 0, entries.data(), entries.size());
     }},
    {"map a shadow stack",
     [](const EscapeScene&) -> long { return ::syscall(map_shadow_stack_number, 0, 4096, 0); }},
    {"get at input and output ports", [](const EscapeScene&) -> long { return ::syscall(SYS_iopl, 0); }},
    {"make a 32-bit system call",
     [](const EscapeScene&) -> long {
         long result = 20;  // getpid of i386
         asm volatile("int $0x80" : "+a"(result) : : "memory");
         errno = ENOSYS;
         return result > 0 ? 0 : -1;
     }},
    {"make an x32 system call",
     [](const EscapeScene&) -> long { return ::syscall(0x40000000 + SYS_getpid); }},
#endif
};

}  // namespace

std::span<const Escape> kernel_escapes() {
    return kernel_list;
}

}  // namespace fdbroker::worker
