// SPDX-License-Identifier: MIT
// What one request costs one unprivileged client that shares a core with the brokers.
#pragma once

#include <string>

#include "tests/bench/broker/barest.hpp"
#include "tests/bench/broker/options.hpp"
#include "tests/bench/broker/scene.hpp"

namespace fdbroker::bench {

// Where the openers listen that the client talks to.
struct Addresses {
    std::string rules_1000;
    std::string rules_10;
    std::string rules_100000;
    std::string audited;  // 1,000 rules, every decision recorded in a file
};

// Must run pinned, as the user that the scene's policies name. Prints its lines.
void measure_costs(const Options& options, const Scene& scene, const BarestBroker& barest,
                   const Addresses& addresses);

// As above, for an opener with a candidate in its shadow beside one without.
void measure_shadow(const Options& options, const Scene& scene, const BarestBroker& barest,
                    const std::string& without, const std::string& with);

}  // namespace fdbroker::bench
