// SPDX-License-Identifier: MIT
// What the processes of an opener take, as /proc tells.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>

#include "opener/link/supervisor_facts.hpp"

namespace fdbroker::opener {

struct ProcessUsage {
    std::uint32_t processes = 0;
    std::uint64_t resident = 0;     // bytes, pages that they share counted for each
    std::uint64_t descriptors = 0;  // 0 where the kernel does not tell (before 6.2)
};

// Nothing is counted of a process that has ended.
ProcessUsage usage_of(pid_t pid);
// The sum of all descendants, at most max_usage_processes.
inline constexpr std::uint32_t max_usage_processes = 256;
ProcessUsage usage_below(pid_t pid);

class UsageMeter {
  public:
    // Looks at this process, the broker and the broker's descendants, at most once a second: that takes hundreds of system
    // calls.
    void measure(SupervisorFacts& facts, pid_t broker);

  private:
    std::chrono::steady_clock::time_point measured_at_{};
};

}  // namespace fdbroker::opener
