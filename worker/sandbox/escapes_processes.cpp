// SPDX-License-Identifier: MIT
// Ways out by other processes and other programs.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "worker/sandbox/escape_groups.hpp"

namespace fdbroker::worker {
namespace {

long write_and_run(const EscapeScene& scene) {
    const int file = ::memfd_create("program", MFD_CLOEXEC);
    if (::write(file, scene.program_bytes.data(), scene.program_bytes.size()) < 0) return -1;
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
     [](const EscapeScene&) -> long {
         const int made = ::shmget(IPC_PRIVATE, 4096, 0600);
         return made < 0 ? made : ::shmctl(made, IPC_RMID, nullptr);
     }},
    {"become another group", [](const EscapeScene&) -> long { return ::setgid(::getgid()); }},
    {"write its parent's memory",
     [](const EscapeScene& scene) -> long {
         int value = 0;
         iovec here{.iov_base = &value, .iov_len = sizeof value};
         iovec there = here;
         return ::process_vm_writev(scene.parent, &here, 1, &there, 1, 0);
     }},
    {"leave its session", [](const EscapeScene&) -> long { return ::setsid(); }},
    {"make a message queue",
     [](const EscapeScene&) -> long {
         const int made = ::msgget(IPC_PRIVATE, 0600);
         return made < 0 ? made : ::msgctl(made, IPC_RMID, nullptr);
     }},
    {"make semaphores",
     [](const EscapeScene&) -> long {
         const int made = ::semget(IPC_PRIVATE, 1, 0600);
         return made < 0 ? made : ::semctl(made, 0, IPC_RMID);
     }},
    {"have its parent's memory put away by a pidfd it holds",
     [](const EscapeScene& scene) -> long {
         int value = 0;
         const iovec there{.iov_base = &value, .iov_len = 0};
         return ::syscall(SYS_process_madvise, scene.parent_pidfd.number(), &there, 1, MADV_COLD, 0);
     }},
    {"find its parent's locks",
     [](const EscapeScene& scene) -> long {
         void* head = nullptr;
         std::size_t size = 0;
         return ::syscall(SYS_get_robust_list, scene.parent, &head, &size);
     }},
    {"move its parent's memory",
     [](const EscapeScene& scene) -> long {
         return ::syscall(SYS_move_pages, scene.parent, 0, nullptr, nullptr, nullptr, 0);
     }},
    {"change its parent's input and output priority",
     [](const EscapeScene& scene) -> long {
         constexpr int of_process = 1;  // IOPRIO_WHO_PROCESS
         const long priority = ::syscall(SYS_ioprio_get, of_process, 0);
         return priority < 0 ? -1 : ::syscall(SYS_ioprio_set, of_process, scene.parent, priority);
     }},
    {"change its parent's scheduling",
     [](const EscapeScene& scene) -> long {
         const sched_param parameters{};
         return ::sched_setscheduler(scene.parent, SCHED_OTHER, &parameters);
     }},
    {"let any process trace it",
     [](const EscapeScene&) -> long { return ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); }},
    {"change its memory map",
     [](const EscapeScene&) -> long {
         unsigned size = 0;
         return ::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0);
     }},
    {"change its securebits",
     [](const EscapeScene&) -> long {
         return ::prctl(PR_SET_SECUREBITS, ::prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), 0, 0, 0);
     }},
    {"take a pidfd from a socket it holds",
     [](const EscapeScene& scene) -> long {
         constexpr int peer_pidfd = 77;  // SO_PEERPIDFD, Linux 6.5
         int pidfd = -1;
         socklen_t size = sizeof pidfd;
         return ::getsockopt(scene.connected.number(), SOL_SOCKET, peer_pidfd, &pidfd, &size);
     }},
};

}  // namespace

std::span<const Escape> program_escapes() {
    return program_list;
}

std::span<const Escape> process_escapes() {
    return process_list;
}

}  // namespace fdbroker::worker
