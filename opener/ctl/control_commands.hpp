// SPDX-License-Identifier: MIT
// The commands that ask or tell a running opener.
#pragma once

#include <expected>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "opener/control/line.hpp"
#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

struct ControlQuestion {
    std::string control{};  // the address
    opener::ControlCommand command{};
    std::vector<std::string> arguments{};
    bool grants = false;
    std::string listen{};  // metrics: serve them there, metrics_server.hpp
    bool json = false;
};

// Asks and prints the answer. exit_done; exit_failed: the opener refused, or could not; exit_policy: it has not reloaded
// because the policy is invalid; exit_unreachable.
Ending ask_opener(const ControlQuestion& question);

// The answer alone, as the opener gave it; an error has "error" and "status".
std::expected<nlohmann::json, Failure> answer_of_opener(const ControlQuestion& question);
// As JSON on standard output, or on standard error in text; the status that it bears.
ExitStatus print_error(const nlohmann::json& answer, bool as_json);

}  // namespace fdbroker::ctl
