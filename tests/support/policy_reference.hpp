// SPDX-License-Identifier: MIT
// The policy language's decisions once more, as plainly as they can be written: every rule is tried against every
// path by recursion over the text of its pattern. Slow (exponential in the worst case), for comparison only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::test {

struct ReferenceRule {
    bool allows = false;
    policy::OperationSet operations{};
    bool held = true;       // does the peer hold a role of the rule?
    std::string pattern{};  // accepted by parse_pattern()
};

struct ReferenceDecision {
    std::optional<std::size_t> denied_by{};
    policy::OperationSet refused{};  // denied, or allowed by nothing
    std::array<std::optional<std::size_t>, policy::operation_count> allowed_by{};
};

ReferenceDecision reference_decision(const std::vector<ReferenceRule>& rules, policy::OperationSet operations,
                                     std::string_view path, const policy::PeerValues& values);

// Builds the policy of the rules, decides with it and with the reference, and returns what differs, if anything.
std::string difference(const std::vector<ReferenceRule>& rules, policy::OperationSet operations,
                       policy::RequestPath path, const policy::PeerIdentity& identity);

// The policy itself; rules have the names "0", "1", …
policy::Policy policy_of(const std::vector<ReferenceRule>& rules);

}  // namespace fdbroker::test
