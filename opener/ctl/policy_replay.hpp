// SPDX-License-Identifier: MIT
// `openerctl policy replay`: recorded decisions under another policy.
#pragma once

#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

struct ReplayOptions {
    std::vector<std::string> files{};  // logs, - is standard input; the last one is the policy
    bool rotated = false;              // and what the logs were rotated to
    bool json = false;
};
// exit_done: no decision would be another; exit_failed: one would, or a file cannot be read; exit_policy: the policy is
// invalid.
Ending policy_replay(const ReplayOptions& options);

}  // namespace fdbroker::ctl
