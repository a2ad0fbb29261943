// SPDX-License-Identifier: MIT
// How long whole programs take under `worker run`. Each prints its lines.
#pragma once

#include <string>

#include "tests/bench/run/options.hpp"

namespace fdbroker::bench {

// /bin/true, plainly, under `worker run` and under bubblewrap. Must run as an unprivileged user.
void measure_start(const Options& options, const std::string& address);

// The files that the programs of measure_programs() work on. Must run as root; `directory` exists.
void prepare_programs(const std::string& directory);
// Rules that grant them to nobody.
std::string rules_for_programs(const std::string& directory);
// `git status` and gcc. Must run as nobody.
void measure_programs(const Options& options, const std::string& directory, const std::string& address);

}  // namespace fdbroker::bench
