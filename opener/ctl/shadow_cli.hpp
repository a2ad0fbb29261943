// SPDX-License-Identifier: MIT
// `openerctl shadow`, and `reload --if-shadow-clean`.
#pragma once

#include <memory>

#include "opener/ctl/command.hpp"
#include "opener/ctl/control_commands.hpp"

namespace fdbroker::ctl {

void add_shadow(CLI::App& app, CommandLine& line);
// Reloads only where the candidate has been clean for so long, and is what would be loaded.
void add_shadow_condition(CLI::App& reload, CommandLine& line,
                          const std::shared_ptr<ControlQuestion>& question);

}  // namespace fdbroker::ctl
