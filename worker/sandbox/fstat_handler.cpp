// SPDX-License-Identifier: MIT
#include "worker/sandbox/fstat_handler.hpp"

#include <execinfo.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

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

// The names of the calls by number; empty: there is none.
std::array<std::array<char, 32>, 640> names{};
volatile bool tells = false;

void fill_names() {
    for (std::size_t number = 0; number < names.size(); ++number) {
        char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number));
        if (name != nullptr) std::snprintf(names[number].data(), names[number].size(), "%s", name);
        ::free(name);
    }
}

void tell(int call) {
    const auto number = static_cast<std::size_t>(call);
    std::array<char, 80> line;
    const char* name = number < names.size() && names[number].front() != '\0' ? names[number].data() : "?";
    const int size =
        std::snprintf(line.data(), line.size(), "fdbroker: denied: %s (%d), called from\n", name, call);
    if (::write(STDERR_FILENO, line.data(), static_cast<std::size_t>(size)) < 0) return;
    // Those of this handler are the first ones.
    constexpr int ours = 3;
    std::array<void*, 16> frames;
    const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
    if (count > ours) ::backtrace_symbols_fd(frames.data() + ours, count - ours, STDERR_FILENO);
}

void handle(int number, siginfo_t* information, void* opaque) {
    if (information->si_code == from_seccomp && (tells || information->si_syscall == SYS_newfstatat)) {
        auto& context = *static_cast<ucontext_t*>(opaque);
        const bool is_fstat = information->si_syscall == SYS_newfstatat;
        const long result = is_fstat ? serve(context) : -EPERM;
        if (tells && result == -EPERM) {
            const int saved = errno;
            tell(information->si_syscall);
            errno = saved;
        }
        set_result(context, result);
        return;
    }
    // Somebody else's filter, or a person: what would have happened without this handler.
    std::signal(number, SIG_DFL);
    std::raise(number);
}

#else

constexpr bool is_supported = false;
volatile bool tells = false;
void fill_names() {}
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

bool install_telling_handler() {
    std::array<void*, 2> frames;
    ::backtrace(frames.data(), static_cast<int>(frames.size()));  // loads what it needs
    fill_names();
    if (install_fstat_handler() != Fstat::served) return false;
    tells = true;
    return true;
}

}  // namespace fdbroker::worker
