// SPDX-License-Identifier: MIT
// The commands that ask or tell a running opener.
#pragma once

#include <expected>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "opener/config/options.hpp"
#include "opener/control/line.hpp"

namespace fdbroker::ctl {

struct ControlQuestion {
    std::string control{};  // the address
    opener::ControlCommand command{};
    std::vector<std::string> arguments{};
    bool grants = false;
    bool json = false;
};

// Asks, prints the answer, and says on standard error what went wrong. exit_done; exit_failed: the opener refused, or could
// not; exit_policy: it has not reloaded because the policy is invalid; exit_unreachable.
opener::ExitStatus ask_opener(const ControlQuestion& question);

// The answer alone; else the status to exit with, after what went wrong was said.
std::expected<nlohmann::json, opener::ExitStatus> answer_of_opener(const ControlQuestion& question);

}  // namespace fdbroker::ctl
