// Which rules' patterns match a path: all patterns of a policy in one trie over path components.
//
// Literal children are found by one probe of a hash table, whatever their number; components with wildcards are
// tried one after the other; `**` is a node that stays reached once it is. The walk (matcher_walk.hpp) goes down the
// trie once, carrying the set of places in the path at which a node is reached, so that it visits every node at
// most once, never goes back, and needs no memory but the stack.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/operation.hpp"
#include "policy/pattern.hpp"

namespace fdbroker::policy {

// One rule whose pattern ends at a node.
struct Entry {
    std::uint32_t rule = 0;
    std::uint32_t roles = 0;       // RoleSets: who the rule is for
    std::uint32_t pattern = 0;     // index among all patterns of the policy, for explanations
    std::uint16_t operations = 0;  // OperationSet::bits()
    bool last = false;             // of the list it is in
};

class Matcher {
  public:
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

    struct Node {
        std::uint32_t any_depth = none;  // the node of `**` below this one
        std::uint32_t globs = none;      // first of its list in globs_
        std::uint32_t allow = none;      // first of its list in entries_
        std::uint32_t deny = none;
        bool literals = false;  // has children in edges_

        bool leaf() const noexcept { return any_depth == none && globs == none && !literals; }
    };

    struct GlobEdge {
        std::uint32_t program = 0;  // place in globs' pool
        std::uint32_t child = 0;
        bool last = false;
    };

    const Node& node(std::uint32_t index) const noexcept { return nodes_[index]; }
    const Entry* entries(std::uint32_t index) const noexcept { return &entries_[index]; }
    const GlobEdge* globs(std::uint32_t index) const noexcept { return &globs_[index]; }
    std::string_view program(const GlobEdge& edge) const noexcept;

    // The number of a literal component, 0 when no pattern has it.
    std::uint32_t component(std::string_view text) const noexcept;
    // The child that the literal component leads to, or none.
    std::uint32_t child(std::uint32_t parent, std::uint32_t component) const noexcept;

    std::size_t bytes() const noexcept;  // of memory held

  private:
    friend class MatcherBuilder;

    struct Name {
        std::uint32_t hash = 0;
        std::uint32_t component = 0;  // place in names_pool_; 0: free
    };
    struct Edge {
        std::uint32_t parent = none;  // none: free
        std::uint32_t component = 0;
        std::uint32_t child = 0;
    };

    std::vector<Node> nodes_{};
    std::vector<Entry> entries_{};
    std::vector<GlobEdge> globs_{};
    std::vector<Name> names_{};  // open addressing; the size is a power of two
    std::vector<Edge> edges_{};  // likewise
    std::string names_pool_{};   // each text after a byte with its length
    std::string globs_pool_{};   // each program after two bytes with its length, lower first
};

class MatcherBuilder {
  public:
    MatcherBuilder();
    enum class Effect : std::uint8_t { allow, deny };
    // Rules are added in file order.
    void add(const Pattern& pattern, Effect effect, const Entry& entry);
    Matcher build() &&;

  private:
    struct Accepted {
        std::uint32_t node = 0;
        Effect effect{};
        Entry entry{};
    };
    std::uint32_t any_depth_child(std::uint32_t parent);
    std::uint32_t glob_child(std::uint32_t parent, const Glob& glob);
    std::uint32_t literal_child(std::uint32_t parent, const std::string& text);
    std::uint32_t new_node();
    void place_entries();
    void place_globs();
    void place_literals();

    struct PendingGlob {
        std::uint32_t parent = 0;
        Matcher::GlobEdge edge{};
    };
    Matcher matcher_{};
    std::vector<Accepted> accepted_{};
    std::vector<PendingGlob> pending_globs_{};
    std::unordered_map<std::string, std::uint32_t> names_{};
    std::unordered_map<std::string, std::uint32_t> programs_{};
    std::unordered_map<std::uint64_t, std::uint32_t> literal_edges_{};
    std::unordered_map<std::uint64_t, std::uint32_t> glob_edges_{};
};

}  // namespace fdbroker::policy
