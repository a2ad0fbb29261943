// SPDX-License-Identifier: MIT
// What the benchmark prints: one line per target, as soon as it has been measured.
#pragma once

#include <string>

namespace fdbroker::bench {

enum class Bound { at_most, at_least };

struct Line {
    std::string what;
    double measured = 0;
    Bound bound = Bound::at_most;
    double target = 0;
    std::string unit;  // "B", "ms", …
};

void print_heading(const std::string& text);
// Something measured that has no target.
void print_value(const std::string& what, double value, const std::string& unit);
void print_line(const Line& line);

}  // namespace fdbroker::bench
