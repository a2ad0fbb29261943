// SPDX-License-Identifier: MIT
// The command line of openerctl(1).
#pragma once

#include "opener/config/options.hpp"

namespace fdbroker::ctl {

// Reads the arguments, does what they ask for, and says on standard error what was wrong.
opener::ExitStatus run(int argc, const char* const* argv);

}  // namespace fdbroker::ctl
