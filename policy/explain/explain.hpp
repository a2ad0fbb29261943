// SPDX-License-Identifier: MIT
// Why a request is decided as it is: the steps of a decision, in words and for machines.
//
// The verdict is decide()'s own; the steps come from the same walk over the same matcher.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// A role of the policy and whether the peer holds it.
struct RoleStep {
    std::string role{};
    bool held = false;
    std::string why{};  // "user alice (uid 1000)", "not in group adm"
};

// The effect on the request of a rule whose pattern matches the path or, for a deny rule, a directory above it.
struct RuleStep {
    enum class Outcome : std::uint8_t {
        denies,         // this is the rule that refuses
        denies_too,     // would refuse as well; an earlier one did
        allows,         // grants `operations`
        too_late,       // would allow; an earlier rule granted all of it
        overridden,     // would allow, but a deny rule refuses the request
        other_peers,    // is for roles that the peer does not hold
        other_actions,  // has none of the operations
    };
    const Rule* rule = nullptr;
    std::string pattern{};  // as written in the rule
    Outcome outcome{};
    OperationSet operations{};  // those of the request that the rule denies, allows or would allow
};

// A rule that would have allowed the whole request but for one thing.
struct NearMiss {
    const Rule* rule = nullptr;
    std::string thing{};  // as in "the rule does not allow write"
};

struct Explanation {
    explicit Explanation(Decision verdict) : decision(std::move(verdict)) {}
    Decision decision;
    std::vector<RoleStep> roles{};   // in the order of the policy
    std::vector<RuleStep> rules{};   // in file order; deny rules and allow rules
    std::vector<NearMiss> misses{};  // for a refusal, at most max_near_misses
};
inline constexpr std::size_t max_near_misses = 8;

// Borrows the policy and the path.
Explanation explain(const Policy& policy, const Peer& peer, OperationSet operations, RequestPath path);

// Lines for a terminal: "refused: …", then the rules, the roles and the near misses.
std::string to_text(const Explanation& explanation, const Peer& peer, OperationSet operations,
                    RequestPath path);
// "read, write"
std::string to_text(OperationSet operations);
// "allowed by rule "site"", "refused by rule "keys"", "refused: no rule allows write"
std::string to_text(const Decision& decision);

}  // namespace fdbroker::policy
