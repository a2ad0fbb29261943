// SPDX-License-Identifier: MIT
// The command line of `openerctl audit …`.
#pragma once

#include "opener/ctl/command.hpp"

namespace fdbroker::ctl {

void add_audit_commands(CLI::App& app, CommandLine& line);
// `policy replay`, which reads records, too.
void add_replay(CLI::App& policy, CommandLine& line);

}  // namespace fdbroker::ctl
