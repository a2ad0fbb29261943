// SPDX-License-Identifier: MIT
// Orders of the benchmark to its probe (probe.cpp).
#pragma once

#include <cstdint>

namespace fdbroker::bench {

struct Work {
    enum class Call : std::uint32_t {
        open,             // and close, the files in turn
        open_refused,     // a file that the policy does not grant
        open_of_runtime,  // and close, one file below /usr
        stat,             // the files in turn
        fstat,            // standard input
    };
    Call call{};
    std::uint32_t times = 0;
};

}  // namespace fdbroker::bench
