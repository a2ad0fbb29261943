// SPDX-License-Identifier: MIT
// The names that lead on from a set of nodes of the trie, one for each set of nodes that they lead to.
#pragma once

#include <array>
#include <set>
#include <string>
#include <vector>

#include "policy/diff/name_classes.hpp"
#include "policy/diff/pattern_trie.hpp"
#include "policy/matching/glob.hpp"

namespace fdbroker::policy {

struct NameChoice {
    std::string name{};                       // a shortest one
    std::vector<PatternTrie::Index> nodes{};  // that it leads to; ascending
};

struct NameMenu {
    std::vector<NameChoice> choices{};
    bool complete = true;  // false: see NameClasses
};

using ValueSets = std::array<std::set<std::string>, variable_count>;

// Whether a variable is in one of the globs below these nodes; `groups` is set when ${group} or ${gid} is.
bool meets_variable(const PatternTrie& trie, const std::vector<PatternTrie::Index>& nodes, bool& groups);

// `values`: what variables stand for. Null: a glob with a variable may match any name or none.
// The trie must outlive `known`.
NameMenu name_menu(const PatternTrie& trie, const std::vector<PatternTrie::Index>& nodes,
                   const PeerValues* values, KnownNameClasses& known);

// Adds the values with which globs with variables below these nodes match what other ones below them match.
void add_values(const PatternTrie& trie, const std::vector<PatternTrie::Index>& nodes, ValueSets& values);

}  // namespace fdbroker::policy
