// SPDX-License-Identifier: MIT
#include "policy/matching/rename.hpp"

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>
#include <vector>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

// The patterns that are under way below a path, as nodes of the matcher: all that a decision about any name below
// depends on. A pattern that has ended at the path itself is no matter, unless it denies, which reaches below.
class Underway {
  public:
    Underway(const Matcher& matcher, const PeerValues& values) : matcher_(matcher), values_(values) {
        reach(0, false);
    }

    void go(std::string_view name) {
        const std::set<Reached> before = std::exchange(reached_, {});
        for (const Reached& one : before) {
            const Matcher::Node& node = matcher_.node(one.place);
            if (one.done != node.name_size) {
                go_on(one, name);
                continue;
            }
            // `**` stays reached whatever follows.
            if (one.any_depth) reached_.insert(one);
            if (node.globs != Matcher::none) {
                matcher_.each_candidate(node.globs, name, [&](const Matcher::GlobEdge& edge) {
                    if (glob_matches(matcher_.program(edge), name, values_)) reach(edge.child, false);
                });
            }
            if (!node.literals) continue;
            const Matcher::Place child = matcher_.child(one.place, name, Matcher::hash(name));
            if (child != Matcher::none) go_on({.place = child}, name);
        }
    }

    bool operator==(const Underway& other) const {
        return denying_ == other.denying_ && std::ranges::equal(going_on(), other.going_on());
    }

  private:
    struct Reached {
        Matcher::Place place = 0;
        std::size_t done = 0;  // how much of the node's name is behind
        bool any_depth = false;
        auto operator<=>(const Reached&) const = default;
    };

    // Further into the name of a literal node.
    void go_on(const Reached& one, std::string_view name) {
        const std::string_view names = matcher_.node(one.place).name();
        const std::size_t begin = one.done == 0 ? 0 : one.done + 1;
        const std::size_t end = std::min(names.find('/', begin), names.size());
        if (names.substr(begin, end - begin) != name) return;
        if (end == names.size()) {
            reach(one.place, false);
        } else {
            reached_.insert({.place = one.place, .done = end});
        }
    }

    void reach(Matcher::Place place, bool any_depth) {
        const Matcher::Node& node = matcher_.node(place);
        if (node.denies != 0) denying_.insert(place);
        reached_.insert({.place = place, .done = node.name_size, .any_depth = any_depth});
        if (node.any_depth != Matcher::none) reach(node.any_depth, true);
    }

    bool ended(const Reached& one) const {
        const Matcher::Node& node = matcher_.node(one.place);
        return one.done == node.name_size && node.leaf();
    }

    std::vector<Reached> going_on() const {
        std::vector<Reached> list;
        for (const Reached& one : reached_)
            if (one.any_depth || !ended(one)) list.push_back(one);
        return list;
    }

    const Matcher& matcher_;
    const PeerValues& values_;
    std::set<Reached> reached_{};
    std::set<Matcher::Place> denying_{};
};

Underway below(const Policy& policy, const Peer& peer, RequestPath path) {
    Underway underway(policy.compiled().matcher, peer.values());
    const std::string_view text = path.text();
    for (std::size_t begin = 1; begin < text.size();) {
        const std::size_t end = std::min(text.find('/', begin), text.size());
        underway.go(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return underway;
}

OperationSet permitted(const Policy& policy, const Peer& peer, RequestPath path) {
    OperationSet operations;
    for (unsigned bit = 0; bit < operation_count; ++bit) {
        const auto operation = static_cast<Operation>(bit);
        if (policy.decide(peer, {operation}, path)) operations.insert(operation);
    }
    return operations;
}

bool moves_directories(const Grant& grant) {
    return std::ranges::all_of(grant.rules(), &Rule::rename_directories);
}

}  // namespace

bool same_rules_below(const Policy& policy, const Peer& peer, RequestPath one, RequestPath other) {
    return below(policy, peer, one) == below(policy, peer, other);
}

std::expected<RenameGrant, RenameRefusal> decide_rename(const Policy& policy, const Peer& peer,
                                                        RequestPath from, RequestPath to) {
    const Decision old_name = policy.decide(peer, {Operation::rename}, from);
    if (!old_name) return std::unexpected(RenameRefusal{.refusal = old_name.error()});
    const Decision new_name = policy.decide(peer, {Operation::rename}, to);
    if (!new_name) return std::unexpected(RenameRefusal{.refusal = new_name.error(), .at_new_name = true});
    const OperationSet there = permitted(policy, peer, to);
    if (const OperationSet gains = there - permitted(policy, peer, from); !gains.empty()) {
        return std::unexpected(
            RenameRefusal{.refusal = {.errno_value = EACCES}, .at_new_name = true, .gains = gains});
    }
    return RenameGrant{.from = *old_name,
                       .to = *new_name,
                       .may_replace = there.contains(Operation::remove),
                       .directories = moves_directories(*old_name) && moves_directories(*new_name) &&
                                      same_rules_below(policy, peer, from, to),
                       .at_new_name = there};
}

}  // namespace fdbroker::policy
