// SPDX-License-Identifier: MIT
// What single calls of a program under `worker run` cost, on one core.
#pragma once

#include <string>

#include "tests/bench/broker/barest.hpp"
#include "tests/bench/broker/scene.hpp"
#include "tests/bench/run/options.hpp"

namespace fdbroker::bench {

// Must run pinned, as the user that the scene's policies name; `address` is that of an opener with the scene's policy of
// 1,000 rules. Prints its lines.
void measure_calls(const Options& options, const Scene& scene, const BarestBroker& barest,
                   const std::string& address);

}  // namespace fdbroker::bench
