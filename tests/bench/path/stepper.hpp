// SPDX-License-Identifier: MIT
// Counts the instructions that another process executes in user space, one PTRACE_SINGLESTEP at a time: exact, the same
// in each run, and independent of counters that virtual machines lack. (valgrind 3.19 does not know openat2(2).)
//
// A call into the vDSO counts as a single instruction: the clock's reader there begins anew whenever the kernel updates
// the time, and would never end in single steps.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>

namespace fdbroker::bench {

class Stepper {
  public:
    // Traces a process that sleeps in a system call. Needs CAP_SYS_PTRACE. Throws std::system_error, as all of it.
    explicit Stepper(pid_t pid);
    Stepper(const Stepper&) = delete;
    Stepper& operator=(const Stepper&) = delete;
    // Lets the process run.
    ~Stepper();

    // Steps until the process is about to make the system call `number` for which `ready` says so; returns the
    // instructions up to it. A call that blocks meanwhile is waited for.
    template <typename Ready>
    std::uint64_t count_until(long number, Ready ready) {
        std::uint64_t count = 0;
        for (;;) {
            step();
            ++count;
            if (next_call() == number && ready()) return count;
        }
    }

    // How often each instruction was executed, by its address.
    void forget_profile() { profile_.clear(); }
    const std::unordered_map<std::uint64_t, std::uint64_t>& profile() const { return profile_; }

  private:
    void step();
    // The system call that the next instruction makes; -1: it makes none.
    long next_call();
    void wait_for_stop() const;
    void run_to(std::uint64_t address);
    std::uint64_t word_at(std::uint64_t address) const;

    pid_t pid_;
    std::uint64_t vdso_begin_ = 0;
    std::uint64_t vdso_end_ = 0;
    std::unordered_map<std::uint64_t, std::uint64_t> profile_{};
};

}  // namespace fdbroker::bench
