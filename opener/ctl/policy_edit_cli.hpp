// SPDX-License-Identifier: MIT
// The command lines of the commands that are about a policy's edits.
#pragma once

#include "opener/ctl/command.hpp"

namespace fdbroker::ctl {

void add_diff(CLI::App& group, CommandLine& line);
void add_suggest(CLI::App& group, CommandLine& line);

}  // namespace fdbroker::ctl
