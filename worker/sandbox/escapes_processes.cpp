// Ways out by other processes, other programs, and the kernel's odder doors.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "worker/sandbox/escape_groups.hpp"

namespace fdbroker::worker {
namespace {

constexpr std::size_t largest_program = 1 << 24;

long write_and_run(const EscapeScene& scene) {
    const int file = ::memfd_create("program", MFD_CLOEXEC);
    if (::sendfile(file, scene.program.number(), nullptr, largest_program) < 0) return -1;
    std::array<char, 5> name{"true"};
    const std::array<char*, 2> arguments{name.data(), nullptr};
    return ::syscall(SYS_execveat, file, "", arguments.data(), nullptr, AT_EMPTY_PATH);
}

constexpr Escape program_list[] = {
    {"run a program",
     [](const EscapeScene&) -> long {
         std::array<char, 5> name{"true"};
         const std::array<char*, 2> arguments{name.data(), nullptr};
         return ::execve("/bin/true", arguments.data(), nullptr);
     }},
    {"run a program it holds",
     [](const EscapeScene& scene) -> long {
         std::array<char, 5> name{"true"};
         const std::array<char*, 2> arguments{name.data(), nullptr};
         return ::syscall(SYS_execveat, scene.program.number(), "", arguments.data(), nullptr, AT_EMPTY_PATH);
     }},
    {"run a program from memory", [](const EscapeScene& scene) -> long { return write_and_run(scene); }},
};

constexpr Escape process_list[] = {
    {"signal its parent", [](const EscapeScene& scene) -> long { return ::kill(scene.parent, 0); }},
    {"signal a thread of its parent",
     [](const EscapeScene& scene) -> long { return ::syscall(SYS_tgkill, scene.parent, scene.parent, 0); }},
    {"signal a thread by its id alone",
     [](const EscapeScene& scene) -> long { return ::syscall(SYS_tkill, scene.parent, 0); }},
    {"queue a signal for its parent",
     [](const EscapeScene& scene) -> long {
         siginfo_t information{};
         information.si_code = SI_QUEUE;
         return ::syscall(SYS_rt_sigqueueinfo, scene.parent, 0, &information);
     }},
    {"make a pidfd",
     [](const EscapeScene& scene) -> long { return ::syscall(SYS_pidfd_open, scene.parent, 0); }},
    {"signal by a pidfd it holds",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_pidfd_send_signal, scene.parent_pidfd.number(), 0, nullptr, 0);
     }},
    {"fetch a descriptor by a pidfd it holds",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_pidfd_getfd, scene.parent_pidfd.number(), scene.file.number(), 0);
     }},
    {"have its parent signalled by a socket",
     [](const EscapeScene& scene) -> long {
         return ::fcntl(scene.stream_socket.number(), F_SETOWN, scene.parent);
     }},
    {"choose the signal a descriptor sends",
     [](const EscapeScene& scene) -> long {
         return ::fcntl(scene.stream_socket.number(), F_SETSIG, SIGKILL);
     }},
    {"trace its parent",
     [](const EscapeScene& scene) -> long { return ::ptrace(PTRACE_SEIZE, scene.parent, nullptr, nullptr); }},
    {"let itself be traced",
     [](const EscapeScene&) -> long { return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
    {"read its parent's memory",
     [](const EscapeScene& scene) -> long {
         int value = 0;
         iovec here{.iov_base = &value, .iov_len = sizeof value};
         iovec there = here;  // fork left the same addresses
         return ::process_vm_readv(scene.parent, &here, 1, &there, 1, 0);
     }},
    {"compare itself with its parent",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_kcmp, scene.parent, ::getpid(), 0, 1, 1) < 0 ? -1 : 0;
     }},
    {"set its parent's limits",
     [](const EscapeScene& scene) -> long {
         struct rlimit limit{};
         ::getrlimit(RLIMIT_CORE, &limit);
         return ::prlimit(scene.parent, RLIMIT_CORE, &limit, nullptr);
     }},
    {"move its parent to another CPU",
     [](const EscapeScene& scene) -> long {
         cpu_set_t cpus;
         ::sched_getaffinity(0, sizeof cpus, &cpus);
         return ::sched_setaffinity(scene.parent, sizeof cpus, &cpus);
     }},
    {"change its parent's priority",
     [](const EscapeScene& scene) -> long {
         return ::setpriority(PRIO_PROCESS, static_cast<id_t>(scene.parent), ::getpriority(PRIO_PROCESS, 0));
     }},
    {"become another user", [](const EscapeScene&) -> long { return ::setuid(::getuid()); }},
    {"become dumpable again",
     [](const EscapeScene&) -> long { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
    {"share memory by System V keys",
     [](const EscapeScene&) -> long { return ::shmget(IPC_PRIVATE, 4096, 0600); }},
    {"become another group", [](const EscapeScene&) -> long { return ::setgid(::getgid()); }},
    {"write its parent's memory",
     [](const EscapeScene& scene) -> long {
         int value = 0;
         iovec here{.iov_base = &value, .iov_len = sizeof value};
         iovec there = here;
         return ::process_vm_writev(scene.parent, &here, 1, &there, 1, 0);
     }},
    {"leave its session", [](const EscapeScene&) -> long { return ::setsid(); }},
    {"make a message queue", [](const EscapeScene&) -> long { return ::msgget(IPC_PRIVATE, 0600); }},
};

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
#if defined(__x86_64__)
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

std::span<const Escape> program_escapes() {
    return program_list;
}

std::span<const Escape> process_escapes() {
    return process_list;
}

std::span<const Escape> kernel_escapes() {
    return kernel_list;
}

}  // namespace fdbroker::worker
