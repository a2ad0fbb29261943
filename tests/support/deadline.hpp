// SPDX-License-Identifier: MIT
// How long a test waits for an event before it gives up. A deadline ends a test that hangs; it is never a
// measure of speed.
#pragma once

#include <chrono>

namespace fdbroker::test {

using Deadline = std::chrono::steady_clock::time_point;

// Long enough for a sanitizer's or valgrind's run on a busy machine.
inline constexpr std::chrono::seconds patience{60};

inline Deadline in_good_time() {
    return std::chrono::steady_clock::now() + patience;
}

// Milliseconds until `deadline`, rounded up, for poll(2); 0 when it has passed.
int milliseconds_until(Deadline deadline);

}  // namespace fdbroker::test
