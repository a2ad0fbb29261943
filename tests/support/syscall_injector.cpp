// SPDX-License-Identifier: MIT
#include "tests/support/syscall_injector.hpp"

#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>

namespace fdbroker::test {

#ifdef __x86_64__

namespace {

using Registers = user_regs_struct;

constexpr unsigned long size_of_syscall_instruction = 2;  // 0f 05
constexpr unsigned long red_zone = 128;                   // below the stack pointer, System V ABI 3.2.2
constexpr int syscall_stop = SIGTRAP | 0x80;              // PTRACE_O_TRACESYSGOOD

void require(long result, const char* call) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), call);
}

// ptrace(2) takes numbers as addresses.
void* as_pointer(unsigned long number) {
    return reinterpret_cast<void*>(number);
}

Registers registers_of(pid_t pid) {
    Registers registers{};
    require(::ptrace(PTRACE_GETREGS, pid, nullptr, &registers), "PTRACE_GETREGS");
    return registers;
}

void set_registers(pid_t pid, const Registers& registers) {
    require(::ptrace(PTRACE_SETREGS, pid, nullptr, &registers), "PTRACE_SETREGS");
}

// The registers that make the call of `at_call` once more.
Registers again(Registers at_call) {
    at_call.rip -= size_of_syscall_instruction;
    at_call.rax = at_call.orig_rax;
    at_call.orig_rax = static_cast<unsigned long>(-1);
    return at_call;
}

Registers from_bytes(const std::string& bytes) {
    Registers registers{};
    bytes.copy(reinterpret_cast<char*>(&registers), sizeof registers);
    return registers;
}

}  // namespace

bool SyscallInjector::is_supported() noexcept {
    return true;
}

SyscallInjector::SyscallInjector(pid_t pid) : pid_(pid) {
    require(::ptrace(PTRACE_SEIZE, pid, nullptr, as_pointer(PTRACE_O_TRACESYSGOOD)), "PTRACE_SEIZE");
    require(::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr), "PTRACE_INTERRUPT");
    int status = 0;
    require(::waitpid(pid, &status, __WALL), "waitpid");
    if (!WIFSTOPPED(status)) throw std::runtime_error("the process ended before it could be stopped");
    go_to_next_stop();
    const Registers registers = registers_of(pid);
    registers_.assign(reinterpret_cast<const char*>(&registers), sizeof registers);
}

SyscallInjector::~SyscallInjector() {
    if (place_ == Place::after_call) {
        const Registers own = again(from_bytes(registers_));
        (void)::ptrace(PTRACE_SETREGS, pid_, nullptr, &own);
    }
    (void)::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
}

// Runs on to the entry or the exit of a system call, whichever comes next. Signals meanwhile are the process's own.
void SyscallInjector::go_to_next_stop() {
    unsigned long signal = 0;
    for (;;) {
        require(::ptrace(PTRACE_SYSCALL, pid_, nullptr, as_pointer(signal)), "PTRACE_SYSCALL");
        int status = 0;
        require(::waitpid(pid_, &status, __WALL), "waitpid");
        if (WIFSIGNALED(status)) {
            throw std::runtime_error("the call ended the process by signal " +
                                     std::to_string(WTERMSIG(status)));
        }
        if (WIFEXITED(status)) {
            throw std::runtime_error("the call ended the process with status " +
                                     std::to_string(WEXITSTATUS(status)));
        }
        if (WSTOPSIG(status) == syscall_stop) return;
        const bool is_signal = (status >> 16) == 0;
        signal = is_signal ? static_cast<unsigned long>(WSTOPSIG(status)) : 0;
    }
}

unsigned long SyscallInjector::put_on_stack(std::string_view bytes, unsigned long& top) const {
    top = (top - bytes.size()) & ~15UL;
    iovec local{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
    iovec remote{.iov_base = as_pointer(top), .iov_len = bytes.size()};
    const ssize_t written = ::process_vm_writev(pid_, &local, 1, &remote, 1, 0);
    require(written, "process_vm_writev");
    if (static_cast<std::size_t>(written) != bytes.size()) throw std::runtime_error("the stack has no room");
    return top;
}

long SyscallInjector::call(long number, std::initializer_list<InjectedArgument> arguments) {
    const Registers own = from_bytes(registers_);
    if (place_ == Place::after_call) {
        set_registers(pid_, again(own));
        go_to_next_stop();
        place_ = Place::before_call;
    }
    Registers registers = own;
    registers.orig_rax = static_cast<unsigned long>(number);
    const std::array<unsigned long long*, 6> places = {&registers.rdi, &registers.rsi, &registers.rdx,
                                                       &registers.r10, &registers.r8,  &registers.r9};
    if (arguments.size() > places.size()) throw std::runtime_error("a system call has at most six arguments");
    unsigned long top = own.rsp - red_zone;
    std::size_t index = 0;
    for (const InjectedArgument& argument : arguments) {
        const std::string* const bytes = std::get_if<std::string>(&argument.value_);
        *places[index++] = bytes != nullptr ? put_on_stack(*bytes, top)
                                            : static_cast<unsigned long>(std::get<long>(argument.value_));
    }
    set_registers(pid_, registers);
    go_to_next_stop();
    place_ = Place::after_call;
    return static_cast<long>(registers_of(pid_).rax);
}

#else

bool SyscallInjector::is_supported() noexcept {
    return false;
}
SyscallInjector::SyscallInjector(pid_t pid) : pid_(pid) {
    throw std::runtime_error("system calls can be injected on x86-64 only");
}
SyscallInjector::~SyscallInjector() = default;
void SyscallInjector::go_to_next_stop() {}
unsigned long SyscallInjector::put_on_stack(std::string_view, unsigned long&) const {
    return 0;
}
long SyscallInjector::call(long, std::initializer_list<InjectedArgument>) {
    return -ENOSYS;
}

#endif

}  // namespace fdbroker::test
