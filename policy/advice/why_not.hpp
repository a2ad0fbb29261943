// SPDX-License-Identifier: MIT
// The smallest edits of a policy that would allow a request which it refuses, each with what else it would open.
#pragma once

#include <string>
#include <vector>

#include "policy/diff/diff.hpp"
#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

struct WhyNotEdit {
    // In words of the policy language: `rule "site": allow: add write`. More than one: all of them together.
    std::vector<std::string> changes{};
    std::vector<const Rule*> rules{};  // that are changed; as many as changes; null: a new one
    // Everything that the edit allows besides the request. `after` is always null: the edited policy is gone.
    std::vector<Difference> opens{};
    bool all_paths = true;  // Proof::all_paths of that
    bool all_peers = true;
};

// The edits with the fewest changes and, among those, the ones that open the least come first; at most max_edits. Empty: the
// request is allowed, or no edit of one place would allow it. Compares policies; takes as long as that.
inline constexpr std::size_t max_edits = 8;
std::vector<WhyNotEdit> why_not(const Policy& policy, const Accounts& accounts, const PeerIdentity& peer,
                                OperationSet operations, RequestPath path);

}  // namespace fdbroker::policy
