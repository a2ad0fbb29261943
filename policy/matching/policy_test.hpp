// SPDX-License-Identifier: MIT
// The tests that a policy carries along (`tests:`).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

struct Test {
    Location location{};
    PeerIdentity peer{};
    std::string text{};  // "read /etc/shadow as nobody"
    OperationSet operations{};
    std::string path{};  // canonical
    bool allowed = false;
    std::string rule{};  // the leading rule of a grant or the rule that denies; empty: whichever
};

std::span<const Test> tests(const Policy& policy) noexcept;

}  // namespace fdbroker::policy
