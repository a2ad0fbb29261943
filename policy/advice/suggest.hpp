// SPDX-License-Identifier: MIT
// The fewest and narrowest rules that would have allowed what was refused.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policy/diff/diff.hpp"
#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

struct RefusedRequest {
    PeerIdentity peer{};
    OperationSet operations{};
    std::string path{};
    std::uint64_t count = 1;
    bool denied = false;  // the record names a deny rule
};

// The user whom a rule is for.
struct SuggestedPeer {
    std::uint32_t uid = 0;
    std::string user{};    // empty: the uid has no name
    std::string socket{};  // empty: on each
    auto operator<=>(const SuggestedPeer&) const = default;
};

struct SuggestedPath {
    std::string pattern{};
    std::uint64_t requests = 0;        // that it is for
    std::vector<std::string> paths{};  // those of the requests
};

struct SuggestedRule {
    std::vector<SuggestedPeer> peers{};  // ascending
    OperationSet operations{};
    std::vector<SuggestedPath> paths{};
    bool denies =
        false;  // keeps keys out of a directory that a generalised pattern covers; nobody asked for these
};

struct LeftOut {
    enum class Why : std::uint8_t {
        denied,           // a deny rule covers it
        guarded,          // guarded.hpp
        allowed_already,  // by the policy as it is
        malformed,        // no canonical path, or no operation
    };
    RefusedRequest request{};
    Why why{};
};
std::string_view to_string(LeftOut::Why why) noexcept;

// Several patterns that became one, and what that opens besides.
struct Generalisation {
    std::vector<std::string> from{};
    std::string to{};
    std::vector<Difference> opens{};  // their rules are not to be looked at: the policies are gone
};

struct Suggestion {
    std::vector<SuggestedRule> rules{};
    std::vector<RefusedRequest> allowed{};  // the requests that they are for
    std::vector<LeftOut> left_out{};
    std::vector<Generalisation> generalisations{};
};

enum class Generalise : std::uint8_t { no, yes };

struct SuggestOptions {
    const Policy* policy = nullptr;  // that refuses; null: nothing is allowed yet
    Generalise generalise = Generalise::no;
    std::vector<std::string> include{};  // patterns, see Guard
};

// Each request once (the same peer, operations and path).
Suggestion suggest(const std::vector<RefusedRequest>& requests, const Accounts& accounts,
                   const SuggestOptions& options);

// The policy with the rules; `base` may be null.
Policy policy_with(const Policy* base, const std::vector<SuggestedRule>& rules);

}  // namespace fdbroker::policy
