// SPDX-License-Identifier: MIT
// What the opener takes of the machine, and how it does with many clients. Each prints its lines.
#pragma once

#include "tests/bench/broker/options.hpp"
#include "tests/bench/broker/scene.hpp"

namespace fdbroker::bench {

// How long a policy takes to load, by `opener --check`. Reads and writes nothing else.
void measure_loading(const Options& options, const Scene& scene);
// The broker's proportional set size (PSS), and what an idle connection adds.
void measure_memory(const Options& options, const Scene& scene);
// 64 clients against one, all on one core.
void measure_crowd(const Options& options, const Scene& scene);

}  // namespace fdbroker::bench
