// SPDX-License-Identifier: MIT
// Which patterns two policies have in common: what an edit left alone need not be compared.
#pragma once

#include <array>
#include <set>
#include <string>
#include <vector>

#include "policy/diff/pattern_trie.hpp"

namespace fdbroker::policy {

// For each side and pattern (Entry::pattern): whether it has no counterpart. Counterparts have the same
// peers, effect, operations, settings and text, and stand in the same order on both sides. More may
// be told to have changed than have.
std::array<std::vector<bool>, 2> changed_patterns(const PolicyPair& policies);

// Directories that lead to the paths of rules with `ancestors: stat` for other peers in one policy than in the other.
std::set<std::string> changed_ancestors(const PolicyPair& policies);

}  // namespace fdbroker::policy
