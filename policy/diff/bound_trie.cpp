// SPDX-License-Identifier: MIT
#include "policy/diff/bound_trie.hpp"

#include <algorithm>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

BoundTrie::BoundTrie(const PolicyPair& policies, const PatternTrie& trie, const Peers& peers,
                     const Binding& binding)
    : leads_to_rules_(trie.size()), leads_to_changes_(trie.size()) {
    for (const Side side : both_sides) {
        const std::vector<bool> possible = peers.possible_roles(side, binding);
        const Policy::Compiled& compiled = policies[side].compiled();
        auto& rules = rules_[static_cast<std::size_t>(side)];
        for (const std::uint32_t selector : compiled.rule_roles) {
            const auto roles = compiled.role_sets.roles(selector);
            rules.push_back(selector == RoleSets::every_peer ||
                            std::ranges::any_of(roles, [&](std::uint32_t role) { return possible[role]; }));
        }
    }
    if (trie.apart() != PatternTrie::none) leads_to_rules_[trie.apart()] = true;
    // A child comes after its parent.
    for (PatternTrie::Index index = trie.size(); index-- > 0;) {
        const PatternTrie::Node& node = trie[index];
        for (const TrieEntry& entry : node.entries) {
            if (!has_rule(entry.side, entry.rule)) continue;
            leads_to_rules_[index] = true;
            if (entry.changed) leads_to_changes_[index] = true;
        }
        if (node.parent == PatternTrie::none) continue;
        if (leads_to_rules_[index]) leads_to_rules_[node.parent] = true;
        if (leads_to_changes_[index]) leads_to_changes_[node.parent] = true;
    }
}

}  // namespace fdbroker::policy
