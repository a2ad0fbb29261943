// SPDX-License-Identifier: MIT
#include "policy/diff/search.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "policy/diff/bound_trie.hpp"
#include "policy/diff/name_menu.hpp"
#include "policy/matching/compiled.hpp"
#include "policy/matching/matcher_walk.hpp"

namespace fdbroker::policy {
namespace {

using Index = PatternTrie::Index;
using Indices = std::vector<Index>;

constexpr std::size_t max_path_bytes = 4095;  // RequestPath
constexpr std::uint32_t unbound = Findings::unbound;
constexpr std::size_t states_between_progress = 256;

// A deny rule that matched a directory above.
struct Denying {
    Side side{};
    std::uint32_t rule = 0;
    bool changed = false;  // TrieEntry::changed
    auto operator<=>(const Denying&) const = default;
};

// Two paths of one state are alike in all that may follow.
struct State {
    Indices nodes{};  // reached by the last name
    Indices fresh{};  // nodes of `**` that begins after it
    Indices deep{};   // nodes of `**` that began earlier
    std::vector<Denying> denying{};
    std::uint32_t binding = Findings::unbound;
    bool operator==(const State&) const = default;
};

struct StateHash {
    std::size_t operator()(const State& state) const noexcept {
        std::size_t hash = state.binding;
        const auto add = [&](std::size_t number) {
            hash = (hash ^ number) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
            hash ^= hash >> 32;
        };
        for (const Indices* const all : {&state.nodes, &state.fresh, &state.deep}) {
            add(all->size());
            for (const Index node : *all) add(node);
        }
        for (const Denying& one : state.denying) add(one.rule);
        return hash;
    }
};

Indices joined(const Indices& one, const Indices& other) {
    Indices all;
    std::ranges::set_union(one, other, std::back_inserter(all));
    return all;
}

template <typename Value>
void order(std::vector<Value>& values) {
    std::ranges::sort(values);
    const auto repeated = std::ranges::unique(values);
    values.erase(repeated.begin(), repeated.end());
}

class Search {
  public:
    Search(const PolicyPair& policies, const PatternTrie& trie, Peers& peers, Variables variables,
           const std::vector<Binding>& bindings, const SearchOptions& options)
        : policies_(policies),
          trie_(trie),
          peers_(peers),
          variables_(variables),
          bindings_(bindings),
          options_(options),
          findings_(policies, peers, bindings, options.only) {}

    SearchResult run() {
        State start{.nodes = {PatternTrie::root}};
        begin_any_depths(start);
        if (leads_to_changes(start)) reach(std::move(start), {.length = 0});
        while (!queue_.empty()) {
            const auto [length, order, index] = queue_.top();
            queue_.pop();
            if (visited_[index].done) continue;
            visited_[index].done = true;
            if (++result_.states % states_between_progress == 0 && options_.progress)
                options_.progress(result_.states);
            visit(index);
            if (options_.first_only && !findings_.empty()) break;
            if (is_full()) {
                result_.all_paths = false;
                break;
            }
        }
        result_.all_peers = findings_.all_peers();
        result_.findings = std::move(findings_).take();
        return std::move(result_);
    }

  private:
    struct Arrival {
        std::uint32_t before = 0;
        std::string name{};
        std::size_t length = 0;  // bytes of the path
    };
    struct Visited {
        const State* state = nullptr;
        Arrival arrival{};
        bool done = false;
    };

    bool is_full() const noexcept { return visited_.size() >= options_.max_states; }

    void reach(State state, Arrival arrival) {
        const auto [place, is_new] =
            known_.try_emplace(std::move(state), static_cast<std::uint32_t>(visited_.size()));
        const std::uint32_t index = place->second;
        if (is_new) {
            visited_.push_back({.state = &place->first, .arrival = std::move(arrival)});
        } else if (!visited_[index].done && arrival.length < visited_[index].arrival.length) {
            visited_[index].arrival = std::move(arrival);
        } else {
            return;
        }
        queue_.emplace(visited_[index].arrival.length, order_++, index);
    }

    std::string path_to(std::uint32_t index) const {
        std::string path;
        for (; visited_[index].arrival.length != 0; index = visited_[index].arrival.before)
            path.insert(0, '/' + visited_[index].arrival.name);
        return path.empty() ? "/" : path;
    }

    void begin_any_depths(State& state) const {
        for (const Index node : state.nodes) {
            const Index any_depth = trie_[node].any_depth;
            if (any_depth != PatternTrie::none && !std::ranges::binary_search(state.deep, any_depth))
                state.fresh.push_back(any_depth);
        }
        std::ranges::sort(state.fresh);
    }

    // The trie as those meet it whom a state is about; null: everybody.
    const BoundTrie* bound_trie(std::uint32_t binding) {
        if (binding == unbound) return nullptr;
        if (bound_tries_.empty()) bound_tries_.resize(bindings_.size());
        auto& bound = bound_tries_[binding];
        if (!bound) bound.emplace(policies_, trie_, peers_, bindings_[binding]);
        return &*bound;
    }
    // Patterns and deny rules that are for other peers than those of the state's binding.
    void leave_out_others(State& state) {
        const BoundTrie* const bound = bound_trie(state.binding);
        if (bound == nullptr) return;
        for (Indices* const all : {&state.nodes, &state.fresh, &state.deep})
            std::erase_if(*all, [&](Index node) { return !bound->leads_to_rules(node); });
        std::erase_if(state.denying,
                      [&](const Denying& one) { return !bound->has_rule(one.side, one.rule); });
    }

    bool leads_to_changes(const State& state) {
        const BoundTrie* const bound = bound_trie(state.binding);
        const auto changed = [&](Index node) {
            return bound != nullptr ? bound->leads_to_changes(node) : trie_[node].changed;
        };
        return std::ranges::any_of(state.nodes, changed) || std::ranges::any_of(state.fresh, changed) ||
               std::ranges::any_of(state.deep, changed) ||
               std::ranges::any_of(state.denying, &Denying::changed);
    }

    void visit(std::uint32_t index) {
        const State state = *visited_[index].state;
        bool changed = false;
        const std::vector<MatchedRule> matches = matches_at(state, changed);
        const bool apart =
            trie_.apart() != PatternTrie::none && std::ranges::binary_search(state.nodes, trie_.apart());
        if (changed) findings_.compare(matches, state.binding, apart, [&] { return path_to(index); });
        Indices live;
        for (const Indices* const all : {&state.nodes, &state.fresh, &state.deep})
            for (const Index node : *all)
                if (trie_[node].leads_on()) live.push_back(node);
        std::ranges::sort(live);
        if (state.binding == unbound && meets_variable(trie_, live, result_.groups_met)) {
            result_.variables_met = true;
            add_values(trie_, live, result_.values);
            if (variables_ == Variables::are_bound) {
                for (std::uint32_t binding = 0; binding < bindings_.size() && !is_full(); ++binding)
                    go_on(state, index, live, binding);
                return;
            }
        }
        go_on(state, index, live, state.binding);
    }

    void go_on(const State& state, std::uint32_t index, const Indices& live, std::uint32_t binding) {
        State next{.nodes = live,
                   .deep = joined(state.deep, state.fresh),
                   .denying = denying_below(state),
                   .binding = binding};
        leave_out_others(next);
        if (!leads_to_changes(next)) return;
        // States that differ in what ended there alone go on alike, and the first of them has the shortest path.
        if (!gone_on_.insert(next).second) return;
        const Indices leading = std::exchange(next.nodes, {});
        const std::size_t length = visited_[index].arrival.length;
        const NameMenu& menu = menu_of(leading, binding);
        result_.all_paths = result_.all_paths && menu.complete;
        for (const NameChoice& choice : menu.choices) {
            if (is_full()) return;
            if (length + 1 + choice.name.size() > max_path_bytes) continue;
            State reached = next;
            reached.nodes = choice.nodes;
            begin_any_depths(reached);
            leave_out_others(reached);
            leave_out_overridden(reached);
            if (leads_to_changes(reached))
                reach(std::move(reached), {index, choice.name, length + 1 + choice.name.size()});
        }
    }

    // Deny rules without effect beside another one, of those that end here and those above: with a thousand that deny names
    // anywhere, each pair of them would be a state.
    void leave_out_overridden(State& state) const {
        if (state.denying.empty()) return;
        const auto any_overrides = [&](const std::vector<Denying>& rules, const Denying& one) {
            return std::ranges::any_of(
                rules, [&](const Denying& other) { return other.rule <= one.rule && overrides(other, one); });
        };
        std::erase_if(state.nodes, [&](Index node) {
            return node != trie_.apart() && !trie_[node].leads_on() &&
                   std::ranges::all_of(trie_[node].entries, [&](const TrieEntry& entry) {
                       return !entry.allows && any_overrides(state.denying, denying_of(entry));
                   });
        });
        std::vector<Denying> ending;
        for (const Index node : state.nodes)
            for (const TrieEntry& entry : trie_[node].entries)
                if (!entry.allows) ending.push_back(denying_of(entry));
        std::erase_if(state.denying, [&](const Denying& one) { return any_overrides(ending, one); });
    }
    static Denying denying_of(const TrieEntry& entry) noexcept {
        return {entry.side, entry.rule, entry.changed};
    }

    // Rules without effect beside another one are left out: each would double the states.
    std::vector<Denying> denying_below(const State& state) const {
        std::vector<Denying> all = state.denying;
        for (const Index node : state.nodes)
            for (const TrieEntry& entry : trie_[node].entries)
                if (!entry.allows) all.push_back(denying_of(entry));
        order(all);
        std::vector<Denying> kept;
        for (const Denying& one : all)
            if (std::ranges::none_of(kept, [&](const Denying& earlier) { return overrides(earlier, one); }))
                kept.push_back(one);
        return kept;
    }

    // The earlier rule denies all that the later one does, to the same peers.
    bool overrides(const Denying& earlier, const Denying& later) const {
        if (earlier.side != later.side) return false;
        const Policy::Compiled& compiled = policies_[earlier.side].compiled();
        const std::uint32_t selector = compiled.rule_roles[earlier.rule];
        return (selector == RoleSets::every_peer || selector == compiled.rule_roles[later.rule]) &&
               compiled.rules[earlier.rule].operations.contains_all(compiled.rules[later.rule].operations);
    }

    const NameMenu& menu_of(const Indices& live, std::uint32_t binding) {
        bool groups = false;
        if (!meets_variable(trie_, live, groups)) binding = unbound;
        const auto known = menus_.find({live, binding});
        if (known != menus_.end()) return known->second;
        const PeerValues no_values{};
        const PeerValues* values = binding == unbound ? nullptr : &bindings_[binding].values;
        return menus_.emplace(std::pair(live, binding), name_menu(trie_, live, values, names_)).first->second;
    }

    // The rules that match a path which ends here; `changed` is set when one of them is changed.
    std::vector<MatchedRule> matches_at(const State& state, bool& changed) {
        const BoundTrie* const bound = bound_trie(state.binding);
        std::map<std::tuple<Side, std::uint32_t, bool>, OperationSet> found;
        const auto add = [&](Side side, std::uint32_t rule, bool ancestor, OperationSet reached,
                             bool is_changed) {
            if (bound != nullptr && !bound->has_rule(side, rule)) return;
            OperationSet& operations = found[{side, rule, ancestor}];
            operations = operations | reached;
            changed = changed || is_changed;
        };
        const auto add_all = [&](const Indices& nodes, OperationSet reached) {
            for (const Index node : nodes)
                for (const TrieEntry& entry : trie_[node].entries)
                    add(entry.side, entry.rule, entry.ancestor,
                        entry.ancestor ? OperationSet{Operation::stat} : reached & operations_of(entry),
                        entry.changed);
        };
        add_all(state.nodes, OperationSet::all());
        add_all(state.fresh, at_the_directory_itself);
        add_all(state.deep, OperationSet::all());
        for (const Denying& one : state.denying)
            add(one.side, one.rule, false, operations_of(one), one.changed);
        std::vector<MatchedRule> matches;
        for (const auto& [match, operations] : found) {
            const auto& [side, rule, ancestor] = match;
            if (!operations.empty()) matches.push_back({side, rule, ancestor, operations.bits()});
        }
        return matches;
    }
    // Those of the rule of a TrieEntry or Denying.
    OperationSet operations_of(const auto& of) const {
        return policies_[of.side].rules()[of.rule].operations;
    }

    const PolicyPair& policies_;
    const PatternTrie& trie_;
    const Peers& peers_;
    Variables variables_;
    const std::vector<Binding>& bindings_;
    const SearchOptions& options_;
    std::vector<std::optional<BoundTrie>> bound_tries_{};
    SearchResult result_{};
    std::unordered_map<State, std::uint32_t, StateHash> known_{};
    std::vector<Visited> visited_{};
    KnownNameClasses names_{};
    std::map<std::pair<Indices, std::uint32_t>, NameMenu> menus_{};
    std::unordered_set<State, StateHash> gone_on_{};  // their nodes are those that lead on
    Findings findings_;
    std::uint32_t order_ = 0;
    std::priority_queue<std::tuple<std::size_t, std::uint32_t, std::uint32_t>,
                        std::vector<std::tuple<std::size_t, std::uint32_t, std::uint32_t>>, std::greater<>>
        queue_{};
};

}  // namespace

SearchResult search(const PolicyPair& policies, const PatternTrie& trie, Peers& peers, Variables variables,
                    const std::vector<Binding>& bindings, const SearchOptions& options) {
    return Search(policies, trie, peers, variables, bindings, options).run();
}

}  // namespace fdbroker::policy
