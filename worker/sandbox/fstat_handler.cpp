// SPDX-License-Identifier: MIT
#include "worker/sandbox/fstat_handler.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

namespace fdbroker::worker {
namespace {

#if defined(__x86_64__) || defined(__aarch64__)

constexpr bool is_supported = true;
constexpr int from_seccomp = 1;  // SYS_SECCOMP of asm-generic/siginfo.h

#if defined(__x86_64__)
std::uint64_t argument(const ucontext_t& context, int index) {
    constexpr int registers[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10};
    return static_cast<std::uint64_t>(context.uc_mcontext.gregs[registers[index]]);
}
void set_result(ucontext_t& context, long result) {
    context.uc_mcontext.gregs[REG_RAX] = result;
}
#else
std::uint64_t argument(const ucontext_t& context, int index) {
    return context.uc_mcontext.regs[index];
}
void set_result(ucontext_t& context, long result) {
    context.uc_mcontext.regs[0] = static_cast<std::uint64_t>(result);
}
#endif

long serve(const ucontext_t& context) {
    const auto* path = reinterpret_cast<const char*>(argument(context, 1));
    const auto flags = static_cast<std::uint32_t>(argument(context, 3));
    // From Linux 6.11 on NULL is an empty path.
    if (flags != AT_EMPTY_PATH || (path != nullptr && *path != '\0')) return -EPERM;
    const int saved = errno;
    const long result = ::syscall(SYS_fstat, static_cast<int>(argument(context, 0)), argument(context, 2));
    const long value = result == 0 ? 0 : -errno;
    errno = saved;
    return value;
}

void handle(int number, siginfo_t* information, void* opaque) {
    if (information->si_code == from_seccomp && information->si_syscall == SYS_newfstatat) {
        auto& context = *static_cast<ucontext_t*>(opaque);
        set_result(context, serve(context));
        return;
    }
    // Somebody else's filter, or a person: what would have happened without this handler.
    std::signal(number, SIG_DFL);
    std::raise(number);
}

#else

constexpr bool is_supported = false;
void handle(int, siginfo_t*, void*) {}

#endif

}  // namespace

Fstat install_fstat_handler() {
    sigset_t blocked;
    struct sigaction current{};
    if (!is_supported || ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked) != 0 ||
        sigismember(&blocked, SIGSYS) != 0 || ::sigaction(SIGSYS, nullptr, &current) != 0 ||
        (current.sa_flags & SA_SIGINFO) != 0 || current.sa_handler != SIG_DFL)
        return Fstat::refused;
    struct sigaction ours{};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return ::sigaction(SIGSYS, &ours, nullptr) == 0 ? Fstat::served : Fstat::refused;
}

}  // namespace fdbroker::worker
