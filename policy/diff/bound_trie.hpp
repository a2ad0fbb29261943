// SPDX-License-Identifier: MIT
// The trie as the peers of one binding meet it: patterns of rules whose roles their user does not hold are not there.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "policy/diff/pattern_trie.hpp"
#include "policy/diff/peers.hpp"

namespace fdbroker::policy {

class BoundTrie {
  public:
    // Borrows nothing.
    BoundTrie(const PolicyPair& policies, const PatternTrie& trie, const Peers& peers,
              const Binding& binding);

    // Whether a rule is for some of these peers.
    bool has_rule(Side side, std::uint32_t rule) const noexcept {
        return rules_[static_cast<std::size_t>(side)][rule];
    }
    // Whether an entry of such a rule is at the node or below it, or PatternTrie::apart().
    bool leads_to_rules(PatternTrie::Index node) const noexcept { return leads_to_rules_[node]; }
    // Such an entry that is changed (TrieEntry::changed).
    bool leads_to_changes(PatternTrie::Index node) const noexcept { return leads_to_changes_[node]; }

  private:
    std::array<std::vector<bool>, 2> rules_{};
    std::vector<bool> leads_to_rules_{};
    std::vector<bool> leads_to_changes_{};
};

}  // namespace fdbroker::policy
