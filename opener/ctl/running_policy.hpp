// SPDX-License-Identifier: MIT
// The policy that the running opener serves.
#pragma once

#include <expected>
#include <string>

#include "opener/ctl/failure.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::ctl {

// The policy as it was loaded; its files may have changed since. exit_unreachable: no opener answers at this socket;
// exit_failed: the opener does not tell.
std::expected<policy::Policy, Failure> running_policy(const std::string& control);

}  // namespace fdbroker::ctl
