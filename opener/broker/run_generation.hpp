// SPDX-License-Identifier: MIT
// A generation: one process, one policy, from loading it to the last reply.
#pragma once

#include "opener/link/generation_start.hpp"

namespace fdbroker::opener {

// Runs a generation in the calling process, which the supervisor has just forked: loads the policy, confines the
// process from it, tells the supervisor that it is ready and serves until it is told to retire. What is wrong with the
// policy or the confinement is in the report.
[[noreturn]] void run_generation(const GenerationStart& start);

}  // namespace fdbroker::opener
