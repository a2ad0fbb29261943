// SPDX-License-Identifier: MIT
// How much an opener holds, at one moment and over time.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fdbroker::soak {

// Memory is proportional (proc(5), Pss of smaps_rollup): what processes share counts for each in part. How much of the
// broker's is shared depends on how many helpers there are, so that of all processes together is told as well.
struct Figures {
    double supervisor_kib = 0;
    double broker_kib = 0;
    double all_kib = 0;
    double supervisor_descriptors = 0;
    double broker_descriptors = 0;
};
Figures figures_of(pid_t supervisor, pid_t broker);

// A figure of many moments is flat if the last quarter's median exceeds the first quarter's by no more than this.
// Memory that allocators keep, or several helpers share, wavers by some pages. The broker keeps up to four idle helpers,
// each with a descriptor.
struct Tolerance {
    double share = 0;     // part of the first quarter's median
    double absolute = 0;  // added to that
};
inline constexpr Tolerance memory_tolerance{.share = 0.03, .absolute = 256};  // KiB
inline constexpr Tolerance descriptor_tolerance{.absolute = 4};

struct Course {
    std::string_view what{};
    double first = 0;  // medians of the quarters
    double last = 0;
    Tolerance tolerance{};

    bool is_flat() const { return last <= first * (1 + tolerance.share) + tolerance.absolute; }
};
std::array<Course, 5> courses_of(const std::vector<Figures>& figures);

// A line of a table.
std::string to_text(const Course& course);

}  // namespace fdbroker::soak
