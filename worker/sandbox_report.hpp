// SPDX-License-Identifier: MIT
// `worker sandbox-report`: what this kernel enforces, layer by layer, and the proof.
#pragma once

#include "worker/ending.hpp"

namespace fdbroker::worker {

enum class ReportFormat { text, json };

// Prints to standard output which layers of the sandbox can be entered here, and a table of attempts to get out of it.
// Children make each attempt: not confined, behind one layer alone, and confined as `worker` is. No opener is needed.
// `done`: every layer is there and every attempt was stopped; else `failed`. Blocks for some seconds.
ExitStatus sandbox_report(ReportFormat format);

}  // namespace fdbroker::worker
