// SPDX-License-Identifier: MIT
// The command line of `worker`.
#pragma once

#include "worker/ending.hpp"

namespace fdbroker::worker {

// Everything main() does: parse the command line, connect, confine this process, serve the command.
ExitStatus run(int argc, const char* const* argv);

}  // namespace fdbroker::worker
