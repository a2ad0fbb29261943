// SPDX-License-Identifier: MIT
#pragma once

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>

namespace fdbroker::opener {

// The steady clock tells no time of day.
inline std::chrono::system_clock::time_point time_of_day(std::chrono::steady_clock::time_point at) {
    return std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                                  at - std::chrono::steady_clock::now());
}

// In UTC, to the second: "2026-01-31T23:59:59Z".
inline std::string time_text(std::chrono::system_clock::time_point time) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::floor<std::chrono::seconds>(time)));
}

inline std::int64_t seconds_since(std::chrono::system_clock::time_point time) {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now() - time).count();
}

}  // namespace fdbroker::opener
