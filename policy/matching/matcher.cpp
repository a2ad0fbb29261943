// SPDX-License-Identifier: MIT
#include "policy/matching/matcher.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>
#include <tuple>

namespace fdbroker::policy {
namespace {

constexpr std::uint64_t multiplier = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio: spreads every bit upwards
constexpr std::size_t node_alignment = alignof(Matcher::Node);
static_assert(alignof(Entry) == node_alignment && sizeof(Matcher::Node) % node_alignment == 0);

std::uint64_t mix(std::uint64_t state, std::uint64_t word) noexcept {
    state = (state ^ word) * multiplier;
    return state ^ state >> 32;
}

template <typename Word>
Word load(std::string_view bytes, std::size_t at) noexcept {
    Word word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    return word;
}

std::uint64_t pair_key(std::uint32_t first, std::uint32_t second) noexcept {
    return std::uint64_t{first} << 32 | second;
}

std::uint32_t hash_of_edge(Matcher::Place parent, std::uint32_t name) noexcept {
    return static_cast<std::uint32_t>(mix(0, pair_key(parent, name)));
}

// Two thirds full at most: probes stay short, and the table small.
std::size_t table_size(std::size_t count) {
    return std::bit_ceil(count + count / 2 + 1);
}

// With that name, or with that name and a slash.
bool begins_with(std::string_view names, std::string_view name) noexcept {
    return names.starts_with(name) && (names.size() == name.size() || names[name.size()] == '/');
}

std::uint32_t index_of(std::size_t size) {
    assert(size < Matcher::none);
    return static_cast<std::uint32_t>(size);
}

}  // namespace

const Entry* Matcher::Node::entries() const noexcept {
    return std::launder(
        reinterpret_cast<const Entry*>(reinterpret_cast<const std::byte*>(this) + sizeof(Node)));
}

std::string_view Matcher::Node::name() const noexcept {
    return {reinterpret_cast<const char*>(entries() + denies + allows), name_size};
}

const Matcher::Node& Matcher::node(Place place) const noexcept {
    return *std::launder(reinterpret_cast<const Node*>(nodes_.data() + place * node_alignment));
}

std::string_view Matcher::program(const GlobEdge& edge) const noexcept {
    const auto low = static_cast<std::uint8_t>(globs_pool_[edge.program]);
    const auto high = static_cast<std::uint8_t>(globs_pool_[edge.program + 1]);
    return {globs_pool_.data() + edge.program + 2, low | std::size_t{high} << 8};
}

// Not keyed: names in the table come from the policy alone, a peer only looks up.
std::uint32_t Matcher::hash(std::string_view name) noexcept {
    std::uint64_t state = name.size();
    for (; name.size() > 8; name.remove_prefix(8)) state = mix(state, load<std::uint64_t>(name, 0));
    if (name.size() >= 4)
        return static_cast<std::uint32_t>(
            mix(state, pair_key(load<std::uint32_t>(name, 0), load<std::uint32_t>(name, name.size() - 4))));
    std::uint64_t word = 0;
    for (const char byte : name) word = word << 8 | static_cast<std::uint8_t>(byte);
    return static_cast<std::uint32_t>(mix(state, word));
}

Matcher::Place Matcher::child(Place parent, std::string_view name, std::uint32_t name_hash) const noexcept {
    const std::uint32_t hash = hash_of_edge(parent, name_hash);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash & mask; slots_[at].node != 0; at = (at + 1) & mask) {
        if (slots_[at].hash != hash) continue;
        const Node& found = node(slots_[at].node);
        if (found.parent == parent && begins_with(found.name(), name)) return slots_[at].node;
    }
    return none;
}

MatcherBuilder::MatcherBuilder() {
    new_node(Matcher::none);
}

MatcherBuilder::Index MatcherBuilder::new_node(Index parent) {
    const Index index = index_of(nodes_.size());
    nodes_.push_back({.parent = parent, .top = index});
    return index;
}

MatcherBuilder::Index MatcherBuilder::any_depth_child(Index parent) {
    if (nodes_[parent].any_depth == Matcher::none) {
        const Index child = new_node(parent);
        nodes_[child].below_any_depth = true;
        nodes_[parent].any_depth = child;
    }
    return nodes_[parent].any_depth;
}

MatcherBuilder::Index MatcherBuilder::glob_child(Index parent, const Glob& glob) {
    const std::string& program = glob.program();
    const auto [known, is_new] = programs_.try_emplace(program, 0);
    if (is_new) {
        std::string& pool = matcher_.globs_pool_;
        known->second = index_of(pool.size());
        pool += static_cast<char>(program.size() & 0xff);
        pool += static_cast<char>(program.size() >> 8);
        pool += program;
    }
    const auto [edge, first] = glob_edges_.try_emplace(pair_key(parent, known->second), 0);
    if (first) {
        edge->second = new_node(parent);
        nodes_[parent].has_globs = true;
        pending_globs_.push_back({parent, edge->second, known->second});
    }
    return edge->second;
}

MatcherBuilder::Index MatcherBuilder::literal_child(Index parent, const std::string& text) {
    const auto name = names_.try_emplace(text, index_of(names_.size())).first;
    const auto [edge, first] = literal_edges_.try_emplace(pair_key(parent, name->second), 0);
    if (first) {
        edge->second = new_node(parent);
        nodes_[edge->second].name = &name->first;
        nodes_[edge->second].name_size = text.size();
        nodes_[parent].literal = edge->second;
        ++nodes_[parent].literals;
    }
    return edge->second;
}

void MatcherBuilder::add(const Pattern& pattern, Effect effect, const Entry& entry) {
    Index node = 0;
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

void MatcherBuilder::count_entries() {
    std::ranges::sort(accepted_, {}, [](const Accepted& one) {
        return std::tuple(one.node, one.effect, one.entry.rule, one.entry.pattern);
    });
    for (const Accepted& one : accepted_)
        ++(one.effect == Effect::deny ? nodes_[one.node].denies : nodes_[one.node].allows);
}

// A child comes after its parent in nodes_.
void MatcherBuilder::join_names() {
    for (NodeDraft& node : nodes_) {
        const bool ends = node.denies + node.allows != 0;
        if (node.name == nullptr || ends || node.any_depth != Matcher::none || node.has_globs) continue;
        if (node.literals != 1) continue;
        node.joined = true;
        nodes_[node.literal].top = node.top;
        nodes_[node.literal].name_size += node.name_size + 1;
    }
}

void MatcherBuilder::choose_places() {
    std::size_t bytes = 0;
    const auto place = [&](NodeDraft& node) {
        node.place = index_of(bytes / node_alignment);
        bytes += sizeof(Matcher::Node) + (node.denies + node.allows) * sizeof(Entry) +
                 (node.name_size + node_alignment - 1) / node_alignment * node_alignment;
    };
    for (NodeDraft& node : nodes_) {
        if (node.below_any_depth || node.joined) continue;
        place(node);
        if (node.any_depth != Matcher::none) place(nodes_[node.any_depth]);
    }
    matcher_.nodes_.resize(bytes);
}

void MatcherBuilder::write_nodes() {
    for (const NodeDraft& draft : nodes_) {
        if (draft.joined) continue;
        auto* const node = new (matcher_.nodes_.data() + draft.place * node_alignment) Matcher::Node;
        node->globs = draft.globs;
        node->denies = draft.denies;
        node->allows = draft.allows;
        node->literals = draft.literals != 0;
        if (draft.any_depth != Matcher::none) node->any_depth = nodes_[draft.any_depth].place;
        if (draft.name == nullptr) continue;
        node->parent = nodes_[nodes_[draft.top].parent].place;
        node->name_size = static_cast<std::uint16_t>(draft.name_size);
        write_name(draft, const_cast<char*>(node->name().data()) + draft.name_size);
    }
}

void MatcherBuilder::write_name(const NodeDraft& draft, char* end) const {
    for (const NodeDraft* at = &draft; true; at = &nodes_[at->parent]) {
        end -= at->name->size();
        std::ranges::copy(*at->name, end);
        if (at == &nodes_[draft.top]) return;
        *--end = '/';
    }
}

// Those of a node come one after the other in accepted_, deny before allow, as they lie behind it.
void MatcherBuilder::write_entries() {
    std::byte* at = nullptr;
    Index node = Matcher::none;
    for (const Accepted& one : accepted_) {
        if (one.node != node) {
            node = one.node;
            at = matcher_.nodes_.data() + nodes_[node].place * node_alignment + sizeof(Matcher::Node);
        }
        new (at) Entry(one.entry);
        at += sizeof(Entry);
    }
}

void MatcherBuilder::write_globs() {
    const auto prefix = [this](const PendingGlob& one) {
        return glob_prefix(matcher_.program({.program = one.program}));
    };
    std::ranges::sort(pending_globs_, {}, [&](const PendingGlob& one) {
        const std::string_view text = prefix(one);
        return std::tuple(one.parent, text.size(), Matcher::hash(text), one.child);
    });
    matcher_.globs_.reserve(pending_globs_.size());
    std::size_t group = 0;  // where the group of the edge at hand begins
    for (std::size_t index = 0; index < pending_globs_.size(); ++index) {
        const PendingGlob& one = pending_globs_[index];
        const std::string_view head = prefix(one);
        const auto length = static_cast<std::uint8_t>(head.size());
        std::uint32_t& first = nodes_[one.parent].globs;
        if (first == Matcher::none || matcher_.globs_[group].prefix != length) group = index;
        if (first == Matcher::none) first = index_of(index);
        const bool last =
            index + 1 == pending_globs_.size() || pending_globs_[index + 1].parent != one.parent;
        matcher_.globs_.push_back({.program = one.program,
                                   .head = Matcher::hash(head),
                                   .child = nodes_[one.child].place,
                                   .prefix = length,
                                   .last = last});
        ++matcher_.globs_[group].group;
    }
}

void MatcherBuilder::write_slots() {
    const auto in_table = [](const NodeDraft& node) { return node.name != nullptr && !node.joined; };
    matcher_.slots_.resize(table_size(static_cast<std::size_t>(std::ranges::count_if(nodes_, in_table))));
    const std::size_t mask = matcher_.slots_.size() - 1;
    for (const NodeDraft& node : nodes_) {
        if (!in_table(node)) continue;
        const NodeDraft& top = nodes_[node.top];
        const std::uint32_t hash = hash_of_edge(nodes_[top.parent].place, Matcher::hash(*top.name));
        std::size_t at = hash & mask;
        while (matcher_.slots_[at].node != 0) at = (at + 1) & mask;
        matcher_.slots_[at] = {hash, node.place};
    }
}

Matcher MatcherBuilder::build() && {
    count_entries();
    join_names();
    choose_places();
    write_globs();
    write_nodes();
    write_entries();
    write_slots();
    matcher_.globs_pool_.shrink_to_fit();
    return std::move(matcher_);
}

}  // namespace fdbroker::policy
