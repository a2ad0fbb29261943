// SPDX-License-Identifier: MIT
// What an edit of a policy does: the differences between two policies by meaning, each with an example.
//
// Names, places, order and division of rules are no matter where they have no effect. The search covers all paths (search.hpp)
// and all peers (peers.hpp). Each example that is told has been decided again by both policies' own decide().
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "policy/diff/verdict.hpp"
#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// The rules live as long as their policies.
struct Difference {
    ChangeKind kind{};
    OperationSet operations{};
    const Rule* before = nullptr;  // the rule that decided; null: no rule allowed it
    const Rule* after = nullptr;
    std::string pattern_before{};  // as written in that rule: the first that reaches the path
    std::string pattern_after{};
    std::vector<Setting> settings{};  // that differ, with ChangeKind::settings
    bool was_ancestor = false;        // that the path is a directory was all that was told
    bool is_ancestor = false;
    std::string path{};                // a shortest example
    PeerIdentity peer{};               // an example
    bool every_peer = false;           // else those of `peers`
    std::vector<std::string> peers{};  // "user alice (uid 1000)", "in group adm"
};

// A value of `limits:` or `audit:`.
struct ValueDifference {
    std::string key{};  // "limits: connections"
    std::string before{};
    std::string after{};
};

// How much the comparison covers.
struct Proof {
    bool all_paths =
        true;  // false: the search was given up; examples of changed patterns were tried beyond that
    bool all_peers = true;  // false: some combinations of groups, or of values of variables, were not tried
    std::size_t values_tried = 0;  // peers that were tried where variables count; 0: none had to be
    std::size_t states = 0;        // that the search visited
    std::size_t sampled = 0;       // paths that were tried one by one
    std::vector<std::string> not_compared{};
};

struct PolicyDiff {
    std::vector<Difference> differences{};  // gained, lost, settings, reveal
    std::vector<ValueDifference> values{};
    Proof proof{};

    bool empty() const noexcept { return differences.empty() && values.empty(); }
};

struct DiffOptions {
    std::function<void(std::size_t states)> progress{};
    std::size_t max_states = 300'000;
    // A canonical path that is compared apart from all others: no other path's difference has it as its example.
    std::string apart{};
};

// Both policies and the accounts must outlive the result. Takes time that grows with what was edited; at most max_states
// states are visited.
PolicyDiff diff(const Policy& before, const Policy& after, const Accounts& accounts,
                const DiffOptions& options = {});

// Those of `limits:` and `audit:`.
std::vector<ValueDifference> value_differences(const Policy& before, const Policy& after);

}  // namespace fdbroker::policy
