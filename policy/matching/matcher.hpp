// SPDX-License-Identifier: MIT
// Which rules' patterns match a path: all patterns of a policy in one trie over path components.
//
// Literal children are found by one probe of a hash table, whatever their number. A binary search finds the components
// with wildcards whose literal beginning fits. `**` is a node that stays reached once it is.
// The walk (matcher_walk.hpp) goes down the trie once, carrying the set of places in the path at which a node is reached.
// So it visits every node at most once, never goes back, and needs no memory but the stack.
//
// With 100,000 rules nearly all of the time goes into cache misses. So literal components that nothing else hangs on
// are one node with the last of them (`etc/settings.toml`). A node, its name and its rules lie side by side, with the node
// of `**` behind the one above it. The table holds nothing but the places of nodes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/matching/glob.hpp"
#include "policy/matching/operation.hpp"
#include "policy/matching/pattern.hpp"

namespace fdbroker::policy {

// A rule whose pattern ends at a node.
struct Entry {
    std::uint32_t rule = 0;
    std::uint32_t roles = 0;       // RoleSets: who the rule is for
    std::uint32_t pattern = 0;     // index among all patterns of the policy, for explanations
    std::uint16_t operations = 0;  // OperationSet::bits()
    bool hides = false;            // a deny rule that reveals ENOENT
};

class Matcher {
  public:
    // The place of a node, in units of a node's alignment. The root is 0.
    using Place = std::uint32_t;
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

    // Behind it lie the entries of deny rules, those of allow rules, and the name.
    struct Node {
        Place parent = none;         // set in a literal node; else none
        Place any_depth = none;      // the node of `**` below this one
        std::uint32_t globs = none;  // first entry of the node's list in globs_
        std::uint32_t denies = 0;
        std::uint32_t allows = 0;
        std::uint16_t name_size = 0;
        bool literals = false;  // has children in the table

        bool leaf() const noexcept { return any_depth == none && globs == none && !literals; }
        std::span<const Entry> deny() const noexcept { return {entries(), denies}; }
        std::span<const Entry> allow() const noexcept { return {entries() + denies, allows}; }
        // A literal node's name, or several names with slashes between them.
        std::string_view name() const noexcept;

      private:
        const Entry* entries() const noexcept;
    };

    // The list of a node is in groups, one for each length of the literal text that programs begin with. A group is sorted by
    // the hash of that text: thousands of names like `item17-*` in one directory are a search, not a trial of each.
    struct GlobEdge {
        std::uint32_t program = 0;  // place in globs_pool_
        std::uint32_t head = 0;     // hash of the literal text
        Place child = 0;
        std::uint32_t group = 0;  // how many edges from here on are of one group; set in its first
        std::uint8_t prefix = 0;  // length of the literal text
        bool last = false;        // last entry of the node
    };

    const Node& node(Place place) const noexcept;
    const GlobEdge* globs(std::uint32_t index) const noexcept { return &globs_[index]; }
    std::string_view program(const GlobEdge& edge) const noexcept;
    // Visits the edges of a list that begin as `name` does, by their hash; no other can match it.
    template <class Visit>
    void each_candidate(std::uint32_t list, std::string_view name, Visit visit) const noexcept {
        for (const GlobEdge* group = &globs_[list]; true; group += group->group) {
            const GlobEdge* const end = group + group->group;
            if (group->prefix <= name.size()) {
                const std::uint32_t head = hash(name.substr(0, group->prefix));
                const auto before = [](const GlobEdge& edge, std::uint32_t hash) { return edge.head < hash; };
                for (const GlobEdge* edge = std::lower_bound(group, end, head, before);
                     edge != end && edge->head == head; ++edge)
                    visit(*edge);
            }
            if (end[-1].last) return;
        }
    }

    static std::uint32_t hash(std::string_view name) noexcept;
    // The child whose name is, or begins with, the literal name with this hash; or none.
    Place child(Place parent, std::string_view name, std::uint32_t hash) const noexcept;

  private:
    friend class MatcherBuilder;

    struct Slot {
        std::uint32_t hash = 0;
        Place node = 0;  // 0: free, the root is nobody's child
    };

    std::vector<std::byte> nodes_{};
    std::vector<Slot> slots_{};  // open addressing; the size is a power of two
    std::vector<GlobEdge> globs_{};
    std::string globs_pool_{};  // each program after two bytes with its length, lower first
};

class MatcherBuilder {
  public:
    MatcherBuilder();
    enum class Effect : std::uint8_t { deny, allow };
    // Rules are added in file order.
    void add(const Pattern& pattern, Effect effect, const Entry& entry);
    Matcher build() &&;

  private:
    using Index = std::uint32_t;  // names a node while the trie is built
    struct NodeDraft {
        Index parent = Matcher::none;
        Index any_depth = Matcher::none;
        Index top = 0;                      // the first component of the names that are one node with this
        const std::string* name = nullptr;  // a literal component's name, a key of names_
        std::size_t name_size = 0;          // from `top` on
        Index literal = Matcher::none;      // a literal child
        std::uint32_t literals = 0;         // how many there are
        bool below_any_depth = false;       // is itself the node of a `**`
        bool has_globs = false;
        bool joined = false;  // is one node with its only child
        Matcher::Place place = 0;
        std::uint32_t denies = 0;
        std::uint32_t allows = 0;
        std::uint32_t globs = Matcher::none;
    };
    struct Accepted {
        Index node = 0;
        Effect effect{};
        Entry entry{};
    };
    struct PendingGlob {
        Index parent = 0;
        Index child = 0;
        std::uint32_t program = 0;
    };

    Index new_node(Index parent);
    Index any_depth_child(Index parent);
    Index glob_child(Index parent, const Glob& glob);
    Index literal_child(Index parent, const std::string& text);
    void count_entries();
    void join_names();
    void choose_places();
    void write_nodes();
    void write_name(const NodeDraft& draft, char* end) const;
    void write_entries();
    void write_globs();
    void write_slots();

    Matcher matcher_{};
    std::vector<NodeDraft> nodes_{};
    std::vector<Accepted> accepted_{};
    std::vector<PendingGlob> pending_globs_{};
    std::unordered_map<std::string, std::uint32_t> names_{};     // numbered as they come
    std::unordered_map<std::string, std::uint32_t> programs_{};  // by program: the place in the pool
    std::unordered_map<std::uint64_t, Index> literal_edges_{};
    std::unordered_map<std::uint64_t, Index> glob_edges_{};
};

}  // namespace fdbroker::policy
