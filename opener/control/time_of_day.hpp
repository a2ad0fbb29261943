// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace fdbroker::opener {

// The steady clock tells no time of day.
inline std::chrono::system_clock::time_point time_of_day(std::chrono::steady_clock::time_point at) {
    return std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                                  at - std::chrono::steady_clock::now());
}

}  // namespace fdbroker::opener
