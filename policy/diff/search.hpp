// SPDX-License-Identifier: MIT
// The search for paths on which two policies differ: over all paths at once, a state for each set of patterns that a path
// may have got into.
//
// A state is a set of nodes of the trie, as in the subset construction. A step is one name; names that no glob at hand tells
// apart are one letter (name_classes.hpp). States with shorter paths are visited first, so that examples are as short as any.
// States from which no changed pattern can be reached are not visited: there nothing differs.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "policy/diff/findings.hpp"
#include "policy/diff/pattern_trie.hpp"

namespace fdbroker::policy {

enum class Variables : std::uint8_t {
    // A component with a variable matches or does not, whatever the name: what then never differs differs for no value.
    // Findings are not to be relied on once variables_met.
    match_freely,
    // Each path is compared for each of the bindings.
    are_bound,
};

struct SearchOptions {
    std::size_t max_states = 300'000;
    std::function<void(std::size_t states)> progress{};  // called now and then
    const Binding* only = nullptr;  // with Variables::match_freely: the one peer that is compared; null: all
    bool first_only = false;        // whether anything differs is all that is asked
};

struct SearchResult {
    std::vector<FoundChange> findings{};
    std::size_t states = 0;
    bool all_paths = true;  // false: max_states or max_name_states was reached
    bool all_peers = true;  // false: too many groups, see PeerClasses
    bool variables_met = false;
    bool groups_met = false;  // ${group} or ${gid} among them
    // Values that patterns with variables meet other patterns with.
    std::array<std::set<std::string>, variable_count> values{};
};

SearchResult search(const PolicyPair& policies, const PatternTrie& trie, Peers& peers, Variables variables,
                    const std::vector<Binding>& bindings, const SearchOptions& options);

}  // namespace fdbroker::policy
