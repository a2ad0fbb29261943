// SPDX-License-Identifier: MIT
// What the processes of an opener take, as /proc tells.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace fdbroker::opener {

struct ProcessUsage {
    std::uint32_t processes = 0;
    std::uint64_t resident = 0;     // bytes, pages that they share counted for each
    std::uint64_t descriptors = 0;  // 0 where the kernel does not tell (before 6.2)
};

// Nothing is counted of a process that has ended.
ProcessUsage usage_of(pid_t pid);
// Of all that descend from it, at most max_usage_processes.
inline constexpr std::uint32_t max_usage_processes = 256;
ProcessUsage usage_below(pid_t pid);

}  // namespace fdbroker::opener
