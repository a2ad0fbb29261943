// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <string>

namespace fdbroker::bench {

struct Options {
    unsigned rounds = 400;
    unsigned chunk_microseconds = 1000;
    unsigned cpu = 0;
    std::string opener{};
    std::string rows = "all";

    std::chrono::nanoseconds chunk() const { return std::chrono::microseconds(chunk_microseconds); }
};

}  // namespace fdbroker::bench
