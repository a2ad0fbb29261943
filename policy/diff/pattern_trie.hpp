// SPDX-License-Identifier: MIT
// The patterns of two policies in one trie over path components, made of the parsed patterns.
//
// Not Matcher: that one holds one policy and joins components for the sake of the cache. What both say is compared by
// tests.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/matching/operation.hpp"
#include "policy/matching/pattern.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

enum class Side : std::uint8_t { before, after };
inline constexpr std::array both_sides{Side::before, Side::after};

// Both policies that are compared; indexed by Side.
struct PolicyPair {
    const Policy* before = nullptr;
    const Policy* after = nullptr;
    const Policy& operator[](Side side) const noexcept { return side == Side::before ? *before : *after; }
};

// A pattern of a rule that ends at a node, or a directory that leads to the paths of a rule with `ancestors: stat`.
struct TrieEntry {
    Side side{};
    std::uint32_t rule = 0;
    bool allows = false;
    bool ancestor = false;
    // False: the entry has a counterpart in the other policy (unchanged.hpp). Where only such entries match, nothing
    // differs.
    bool changed = false;
};

class PatternTrie {
  public:
    using Index = std::uint32_t;
    static constexpr Index none = UINT32_MAX;

    struct Node {
        Index parent = none;
        Index any_depth = none;  // the node of `**` below this one
        bool is_any_depth = false;
        bool changed = false;          // a changed entry ends here or below
        bool variables = false;        // a variable is in a glob below this node
        bool group_variables = false;  // ${group} or ${gid}
        std::map<std::string, Index, std::less<>> literals{};
        std::map<std::string, Index, std::less<>> globs{};  // by program
        std::vector<TrieEntry> entries{};

        bool leads_on() const noexcept { return !literals.empty() || !globs.empty(); }
    };

    // Borrows nothing of the policies. `apart`: a canonical path that gets a separate node although no rule may name it;
    // empty: none.
    explicit PatternTrie(const PolicyPair& policies, std::string_view apart = {});
    Index apart() const noexcept { return apart_; }  // the node of that path, or none
    const Node& operator[](Index index) const noexcept { return nodes_[index]; }
    static constexpr Index root = 0;
    // Nodes are those below it; a child comes after its parent.
    Index size() const noexcept { return static_cast<Index>(nodes_.size()); }

  private:
    Index child(Index parent, const Component& component);
    void note_variables(Node& node, const Glob& glob);
    void add(const Pattern& pattern, const TrieEntry& entry);
    void add_patterns(const PolicyPair& policies);
    void add_ancestors(const PolicyPair& policies);
    // Makes the nodes of a canonical path; `changed` as that of an entry there.
    Index path_node(std::string_view path, bool changed);

    std::vector<Node> nodes_{};
    Index apart_ = none;
};

}  // namespace fdbroker::policy
