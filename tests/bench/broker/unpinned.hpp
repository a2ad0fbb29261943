// SPDX-License-Identifier: MIT
// What users see: an opener and its clients on whatever CPUs the kernel likes.
#pragma once

#include "tests/bench/broker/options.hpp"
#include "tests/bench/broker/scene.hpp"

namespace fdbroker::bench {

// Starts an opener ten times, each time with new clients. Compares 1, 2, 4 and 8 of them with the first client alone,
// which is pinned to a CPU together with the broker. Must not run pinned. Prints a line for each start and each target.
void measure_unpinned(const Options& options, const Scene& scene);

}  // namespace fdbroker::bench
