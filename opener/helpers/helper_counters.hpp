// SPDX-License-Identifier: MIT
// Numbers about helpers, for whoever watches.
#pragma once

#include <cstdint>

namespace fdbroker::opener {

struct HelperCounters {
    std::uint64_t made = 0;        // helpers, ever
    std::uint64_t tasks = 0;       // that were given to one
    std::uint64_t timed_out = 0;   // tasks whose deadline passed
    std::uint64_t lost = 0;        // tasks whose helper died
    std::uint64_t refused = 0;     // tasks for which there was no room
    std::uint64_t stuck = 0;       // times that a helper was left behind
    std::uint64_t background = 0;  // tasks that have left something going on
};

}  // namespace fdbroker::opener
