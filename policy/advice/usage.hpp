// SPDX-License-Identifier: MIT
// Which rules of a policy requests make use of, and how much of each.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// A rule that could be narrower, or go.
struct RuleUsage {
    const Rule* rule = nullptr;
    std::uint64_t requests = 0;        // 0: it was never used, and the rest says nothing
    OperationSet unused_operations{};  // empty for a deny rule
    std::vector<std::string> unused_patterns{};
    std::vector<std::string> unused_roles{};  // that no peer held for whom the rule was used
    // Patterns with `**` whose used paths lie below one directory further down, and the pattern for that.
    std::vector<std::pair<std::string, std::string>> narrower{};

    bool wider_than_used() const noexcept {
        return requests == 0 || !unused_operations.empty() || !unused_patterns.empty() ||
               !unused_roles.empty() || !narrower.empty();
    }
};

class Usage {
  public:
    // The policy must outlive it.
    explicit Usage(const Policy& policy);
    // A request as the policy decides it; `requests` stand for as many. Memory grows with the rules and their patterns only.
    void note(const PeerIdentity& peer, OperationSet operations, RequestPath path, std::uint64_t requests);
    // Rules that could be narrower, in file order.
    std::vector<RuleUsage> report() const;

  private:
    struct Used {
        std::uint64_t requests = 0;
        OperationSet operations{};
        std::map<std::uint32_t, std::string> patterns{};  // the deepest directory that all paths lie below
        std::set<std::uint32_t> roles{};
    };
    const Policy& policy_;
    std::vector<Used> used_{};
};

}  // namespace fdbroker::policy
