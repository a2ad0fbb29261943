#include "policy/matcher.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <tuple>

namespace fdbroker::policy {
namespace {

constexpr std::uint64_t multiplier = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio: spreads every bit upwards

std::uint64_t mix(std::uint64_t state, std::uint64_t word) noexcept {
    state = (state ^ word) * multiplier;
    return state ^ state >> 32;
}

// Not keyed: names come from the policy alone, a peer only looks up.
std::uint32_t hash_of(std::string_view text) noexcept {
    std::uint64_t state = text.size();
    std::uint64_t word = 0;
    for (; text.size() >= sizeof word; text.remove_prefix(sizeof word)) {
        std::memcpy(&word, text.data(), sizeof word);
        state = mix(state, word);
    }
    word = 0;
    for (const char byte : text) word = word << 8 | static_cast<std::uint8_t>(byte);
    return static_cast<std::uint32_t>(mix(state, word));
}

std::uint64_t edge_key(std::uint32_t parent, std::uint32_t child) noexcept {
    return std::uint64_t{parent} << 32 | child;
}

std::uint32_t hash_of_edge(std::uint32_t parent, std::uint32_t component) noexcept {
    return static_cast<std::uint32_t>(mix(0, edge_key(parent, component)));
}

// Two thirds full at most: probes stay short, and the tables small.
std::size_t table_size(std::size_t count) {
    return std::bit_ceil(count + count / 2 + 1);
}

std::uint32_t append(std::string& pool, std::string_view length, std::string_view text) {
    const auto at = static_cast<std::uint32_t>(pool.size());
    pool += length;
    pool += text;
    return at;
}

std::uint32_t index_of(std::size_t size) {
    assert(size < Matcher::none);
    return static_cast<std::uint32_t>(size);
}

}  // namespace

std::string_view Matcher::program(const GlobEdge& edge) const noexcept {
    const auto low = static_cast<std::uint8_t>(globs_pool_[edge.program]);
    const auto high = static_cast<std::uint8_t>(globs_pool_[edge.program + 1]);
    return {globs_pool_.data() + edge.program + 2, low | std::size_t{high} << 8};
}

std::uint32_t Matcher::component(std::string_view text) const noexcept {
    const std::uint32_t hash = hash_of(text);
    const std::size_t mask = names_.size() - 1;
    for (std::size_t at = hash & mask; names_[at].component != 0; at = (at + 1) & mask) {
        if (names_[at].hash != hash) continue;
        const char* const name = names_pool_.data() + names_[at].component;
        if (static_cast<std::uint8_t>(*name) == text.size() &&
            std::memcmp(name + 1, text.data(), text.size()) == 0)
            return names_[at].component;
    }
    return 0;
}

std::uint32_t Matcher::child(std::uint32_t parent, std::uint32_t component) const noexcept {
    const std::size_t mask = edges_.size() - 1;
    for (std::size_t at = hash_of_edge(parent, component) & mask; edges_[at].parent != none;
         at = (at + 1) & mask)
        if (edges_[at].parent == parent && edges_[at].component == component) return edges_[at].child;
    return none;
}

std::size_t Matcher::bytes() const noexcept {
    return nodes_.capacity() * sizeof(Node) + entries_.capacity() * sizeof(Entry) +
           globs_.capacity() * sizeof(GlobEdge) + names_.capacity() * sizeof(Name) +
           edges_.capacity() * sizeof(Edge) + names_pool_.capacity() + globs_pool_.capacity();
}

MatcherBuilder::MatcherBuilder() {
    new_node();
    matcher_.names_pool_ = '\0';  // 0 means that there is no such component
}

std::uint32_t MatcherBuilder::new_node() {
    matcher_.nodes_.emplace_back();
    return index_of(matcher_.nodes_.size() - 1);
}

std::uint32_t MatcherBuilder::any_depth_child(std::uint32_t parent) {
    if (matcher_.nodes_[parent].any_depth == Matcher::none) {
        const std::uint32_t child = new_node();
        matcher_.nodes_[parent].any_depth = child;
    }
    return matcher_.nodes_[parent].any_depth;
}

std::uint32_t MatcherBuilder::glob_child(std::uint32_t parent, const Glob& glob) {
    const std::string& program = glob.program();
    const auto [known, is_new] = programs_.try_emplace(program, 0);
    if (is_new) {
        const char length[2] = {static_cast<char>(program.size() & 0xff),
                                static_cast<char>(program.size() >> 8)};
        known->second = append(matcher_.globs_pool_, {length, sizeof length}, program);
    }
    const auto [edge, first] = glob_edges_.try_emplace(edge_key(parent, known->second), 0);
    if (first) {
        edge->second = new_node();
        pending_globs_.push_back({parent, {.program = known->second, .child = edge->second}});
    }
    return edge->second;
}

std::uint32_t MatcherBuilder::literal_child(std::uint32_t parent, const std::string& text) {
    const auto [known, is_new] = names_.try_emplace(text, 0);
    if (is_new) {
        const char length = static_cast<char>(text.size());
        known->second = append(matcher_.names_pool_, {&length, 1}, text);
    }
    const auto [edge, first] = literal_edges_.try_emplace(edge_key(parent, known->second), 0);
    if (first) {
        edge->second = new_node();
        matcher_.nodes_[parent].literals = true;
    }
    return edge->second;
}

void MatcherBuilder::add(const Pattern& pattern, Effect effect, const Entry& entry) {
    std::uint32_t node = 0;
    for (const Component& component : pattern.components) {
        if (component.any_depth) {
            node = any_depth_child(node);
        } else if (component.glob.is_literal()) {
            node = literal_child(node, component.glob.literal());
        } else {
            node = glob_child(node, component.glob);
        }
    }
    accepted_.push_back({node, effect, entry});
}

void MatcherBuilder::place_entries() {
    const auto list = [](const Accepted& one) { return std::tuple(one.node, one.effect); };
    std::ranges::sort(accepted_, {}, [&](const Accepted& one) {
        return std::tuple(one.node, one.effect, one.entry.rule, one.entry.pattern);
    });
    matcher_.entries_.reserve(accepted_.size());
    for (std::size_t index = 0; index < accepted_.size(); ++index) {
        const Accepted& one = accepted_[index];
        Matcher::Node& node = matcher_.nodes_[one.node];
        std::uint32_t& first = one.effect == Effect::allow ? node.allow : node.deny;
        if (first == Matcher::none) first = index_of(index);
        matcher_.entries_.push_back(one.entry);
        matcher_.entries_.back().last =
            index + 1 == accepted_.size() || list(accepted_[index + 1]) != list(one);
    }
}

void MatcherBuilder::place_globs() {
    std::ranges::sort(pending_globs_, {},
                      [](const PendingGlob& one) { return std::tuple(one.parent, one.edge.child); });
    matcher_.globs_.reserve(pending_globs_.size());
    for (std::size_t index = 0; index < pending_globs_.size(); ++index) {
        const PendingGlob& one = pending_globs_[index];
        std::uint32_t& first = matcher_.nodes_[one.parent].globs;
        if (first == Matcher::none) first = index_of(index);
        matcher_.globs_.push_back(one.edge);
        matcher_.globs_.back().last =
            index + 1 == pending_globs_.size() || pending_globs_[index + 1].parent != one.parent;
    }
}

void MatcherBuilder::place_literals() {
    matcher_.names_.resize(table_size(names_.size()));
    const std::size_t names_mask = matcher_.names_.size() - 1;
    for (const auto& [text, component] : names_) {
        const std::uint32_t hash = hash_of(text);
        std::size_t at = hash & names_mask;
        while (matcher_.names_[at].component != 0) at = (at + 1) & names_mask;
        matcher_.names_[at] = {hash, component};
    }
    matcher_.edges_.resize(table_size(literal_edges_.size()));
    const std::size_t edges_mask = matcher_.edges_.size() - 1;
    for (const auto& [key, child] : literal_edges_) {
        const auto parent = static_cast<std::uint32_t>(key >> 32);
        const auto component = static_cast<std::uint32_t>(key);
        std::size_t at = hash_of_edge(parent, component) & edges_mask;
        while (matcher_.edges_[at].parent != Matcher::none) at = (at + 1) & edges_mask;
        matcher_.edges_[at] = {parent, component, child};
    }
}

Matcher MatcherBuilder::build() && {
    place_entries();
    place_globs();
    place_literals();
    matcher_.nodes_.shrink_to_fit();
    matcher_.names_pool_.shrink_to_fit();
    matcher_.globs_pool_.shrink_to_fit();
    return std::move(matcher_);
}

}  // namespace fdbroker::policy
