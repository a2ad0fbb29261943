// SPDX-License-Identifier: MIT
// The parts that the command lines of openerctl's commands are made of.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "opener/ctl/failure.hpp"
#include "proto/address.hpp"

namespace fdbroker::ctl {

// Options of all commands, and the action of the chosen one; set while the arguments are read.
struct CommandLine {
    std::string control{proto::default_control_socket};
    bool json = false;
    std::function<Ending()> action{};
};

CLI::App& add_command(CLI::App& group, CommandLine& line, const std::string& name, const char* description);

}  // namespace fdbroker::ctl
