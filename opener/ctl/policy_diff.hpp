// SPDX-License-Identifier: MIT
// `openerctl policy diff`: what an edit of a policy does.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"
#include "policy/diff/diff.hpp"

namespace fdbroker::ctl {

struct DiffCommandOptions {
    std::string before{};   // a file, "-" or "running"
    std::string after{};    // a file or "-"
    std::string control{};  // the socket of the opener, for "running"
    bool json = false;
};
// exit_done: there is no difference; exit_failed: there is one, or a policy cannot be read; exit_policy: one is invalid;
// exit_unreachable: "running", and no opener answers.
Ending policy_diff(const DiffCommandOptions& options);

// The lines of one difference, each with its line feed: what, for whom, the example, and the rules.
std::string to_text(const policy::Difference& difference, bool colour);
nlohmann::json to_json(const policy::Difference& difference);
// "2 gained, 1 lost"; "no difference".
std::string summary(const policy::PolicyDiff& found);
nlohmann::json to_json(const policy::Proof& proof);

}  // namespace fdbroker::ctl
