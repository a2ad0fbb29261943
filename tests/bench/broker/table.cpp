// SPDX-License-Identifier: MIT
#include "tests/bench/broker/table.hpp"

#include <fmt/core.h>

#include <cstdio>

namespace fdbroker::bench {

void print_heading(const std::string& text) {
    fmt::print("\n{:<58} {:>12} {:>14}\n", text, "measured", "target");
    (void)std::fflush(stdout);
}

void print_value(const std::string& what, double value, const std::string& unit) {
    fmt::print("{:<58} {:>12}\n", what, fmt::format("{:.2f} {}", value, unit));
    (void)std::fflush(stdout);
}

void print_line(const Line& line) {
    const bool met =
        line.bound == Bound::at_most ? line.measured <= line.target : line.measured >= line.target;
    const char* sign = line.bound == Bound::at_most ? "<=" : ">=";
    fmt::print("{:<58} {:>12} {:>14}  {}\n", line.what, fmt::format("{:.2f} {}", line.measured, line.unit),
               fmt::format("{} {:.2f} {}", sign, line.target, line.unit), met ? "met" : "NOT MET");
    (void)std::fflush(stdout);
}

}  // namespace fdbroker::bench
