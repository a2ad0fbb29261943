// SPDX-License-Identifier: MIT
#include "policy/diff/pattern_trie.hpp"

#include <algorithm>

#include "policy/diff/unchanged.hpp"
#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

PatternTrie::PatternTrie(const PolicyPair& policies, std::string_view apart) : nodes_(1) {
    add_patterns(policies);
    add_ancestors(policies);
    if (!apart.empty()) apart_ = path_node(apart, false);
}

void PatternTrie::add_patterns(const PolicyPair& policies) {
    const auto changed = changed_patterns(policies);
    for (const Side side : both_sides) {
        const Policy::Compiled& compiled = policies[side].compiled();
        for (std::uint32_t index = 0; index < compiled.pattern_ends.size(); ++index) {
            const std::uint32_t rule = compiled.pattern_rules[index];
            const TrieEntry entry{.side = side,
                                  .rule = rule,
                                  .allows = compiled.rules[rule].allows,
                                  .changed = changed[static_cast<std::size_t>(side)][index]};
            // The policy is loaded, so its patterns parse.
            const auto patterns = parse_pattern(compiled.pattern(index));
            for (const Pattern& pattern : patterns.value()) add(pattern, entry);
        }
    }
}

void PatternTrie::add_ancestors(const PolicyPair& policies) {
    const auto changed = changed_ancestors(policies);
    for (const Side side : both_sides) {
        for (const auto& [directory, rules] : policies[side].compiled().ancestors) {
            const bool is_changed = changed.contains(directory);
            const Index node = path_node(directory, is_changed);
            for (const std::uint32_t rule : rules)
                nodes_[node].entries.push_back(
                    {.side = side, .rule = rule, .allows = true, .ancestor = true, .changed = is_changed});
        }
    }
}

PatternTrie::Index PatternTrie::path_node(std::string_view path, bool changed) {
    Index node = root;
    nodes_[node].changed = nodes_[node].changed || changed;
    for (std::size_t begin = 1; begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const auto next = static_cast<Index>(nodes_.size());
        const Index parent = node;
        node = nodes_[parent]
                   .literals.try_emplace(std::string(path.substr(begin, end - begin)), next)
                   .first->second;
        if (node == next) nodes_.emplace_back().parent = parent;
        nodes_[node].changed = nodes_[node].changed || changed;
        begin = end + 1;
    }
    return node;
}

PatternTrie::Index PatternTrie::child(Index parent, const Component& component) {
    const auto next = static_cast<Index>(nodes_.size());
    Index found = none;
    if (component.any_depth) {
        if (nodes_[parent].any_depth == none) nodes_[parent].any_depth = next;
        found = nodes_[parent].any_depth;
    } else if (component.glob.is_literal()) {
        found = nodes_[parent].literals.try_emplace(component.glob.literal(), next).first->second;
    } else {
        found = nodes_[parent].globs.try_emplace(component.glob.program(), next).first->second;
    }
    if (found == next && !component.any_depth) note_variables(nodes_[parent], component.glob);
    if (found == next) nodes_.push_back({.parent = parent, .is_any_depth = component.any_depth});
    return found;
}

void PatternTrie::note_variables(Node& node, const Glob& glob) {
    if (!glob.has_variable()) return;
    node.variables = true;
    for (const GlobStep& step : glob_steps(glob.program()))
        if (step.kind == GlobStep::Kind::variable)
            node.group_variables =
                node.group_variables || step.variable == Variable::group || step.variable == Variable::gid;
}

void PatternTrie::add(const Pattern& pattern, const TrieEntry& entry) {
    Index node = root;
    nodes_[node].changed = nodes_[node].changed || entry.changed;
    for (const Component& component : pattern.components) {
        node = child(node, component);
        nodes_[node].changed = nodes_[node].changed || entry.changed;
    }
    nodes_[node].entries.push_back(entry);
}

}  // namespace fdbroker::policy
