// SPDX-License-Identifier: MIT
#include "tests/bench/path/stepper.hpp"

#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>

#include "tests/support/files.hpp"

namespace fdbroker::bench {

namespace {

[[noreturn]] void fail(const char* call) {
    throw std::system_error(errno, std::generic_category(), call);
}

user_regs_struct registers_of(pid_t pid) {
    user_regs_struct registers{};
    if (::ptrace(PTRACE_GETREGS, pid, nullptr, &registers) != 0) fail("PTRACE_GETREGS");
    return registers;
}

}  // namespace

Stepper::Stepper(pid_t pid) : pid_(pid) {
    if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) fail("PTRACE_SEIZE");
    if (::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) fail("PTRACE_INTERRUPT");
    wait_for_stop();
    std::istringstream maps(test::read_file("/proc/" + std::to_string(pid) + "/maps"));
    for (std::string line; std::getline(maps, line);) {
        if (!line.ends_with("[vdso]")) continue;
        vdso_begin_ = std::stoull(line, nullptr, 16);
        vdso_end_ = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
    }
}

Stepper::~Stepper() {
    ::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
}

void Stepper::wait_for_stop() const {
    int status = 0;
    if (::waitpid(pid_, &status, __WALL) < 0) fail("waitpid");
    if (!WIFSTOPPED(status)) throw std::runtime_error("the process that is traced has ended");
}

void Stepper::step() {
    if (::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) fail("PTRACE_SINGLESTEP");
    wait_for_stop();
}

// Runs the process until its instruction at `address`.
void Stepper::run_to(std::uint64_t address) {
    constexpr std::uint64_t breakpoint = 0xcc;
    const std::uint64_t code = word_at(address);
    const auto poke = [&](std::uint64_t word) {
        if (::ptrace(PTRACE_POKETEXT, pid_, address, word) != 0) fail("PTRACE_POKETEXT");
    };
    poke((code & ~std::uint64_t{0xff}) | breakpoint);
    if (::ptrace(PTRACE_CONT, pid_, nullptr, nullptr) != 0) fail("PTRACE_CONT");
    wait_for_stop();
    poke(code);
    user_regs_struct registers = registers_of(pid_);
    registers.rip = address;
    if (::ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) != 0) fail("PTRACE_SETREGS");
}

std::uint64_t Stepper::word_at(std::uint64_t address) const {
    errno = 0;
    const long word = ::ptrace(PTRACE_PEEKTEXT, pid_, address, nullptr);
    if (word == -1 && errno != 0) fail("PTRACE_PEEKTEXT");
    return static_cast<std::uint64_t>(word);
}

long Stepper::next_call() {
    constexpr std::uint64_t syscall_instruction = 0x050f;
    user_regs_struct registers = registers_of(pid_);
    if (registers.rip >= vdso_begin_ && registers.rip < vdso_end_) {
        // Just called: the return address is on top of the stack.
        run_to(word_at(registers.rsp));
        registers = registers_of(pid_);
    }
    ++profile_[registers.rip];
    if ((word_at(registers.rip) & 0xffff) != syscall_instruction) return -1;
    return static_cast<long>(registers.rax);
}

}  // namespace fdbroker::bench
