// SPDX-License-Identifier: MIT
#include "policy/explain/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "policy/matching/compiled.hpp"
#include "policy/matching/matcher_walk.hpp"

namespace fdbroker::policy {
namespace {

using Outcome = RuleStep::Outcome;

// The operations for which a rule's patterns reach the path.
struct Match {
    std::uint32_t pattern = 0;  // the first that matches
    std::uint32_t roles = 0;
    OperationSet operations{};
};
using Matches = std::map<std::uint32_t, Match>;  // by rule

// Visits the same lists as decide(), and keeps everything.
class Collector {
  public:
    void deny(std::span<const Entry> entries, OperationSet operations) { collect(entries, operations); }
    void allow(std::span<const Entry> entries, OperationSet operations) { collect(entries, operations); }
    const Matches& matches() const noexcept { return matches_; }

  private:
    void collect(std::span<const Entry> entries, OperationSet operations) {
        for (const Entry& entry : entries) {
            const OperationSet reached = operations & OperationSet::from_bits(entry.operations);
            const auto [match, is_new] =
                matches_.try_emplace(entry.rule, Match{entry.pattern, entry.roles, reached});
            if (!is_new) match->second.operations = match->second.operations | reached;
        }
    }
    Matches matches_{};
};

std::string joined(const std::vector<std::string>& words) {
    return fmt::format("{}", fmt::join(words, ", "));
}

std::string user_text(const PeerIdentity& peer) {
    return peer.user.empty() ? fmt::format("uid {} (without a name)", peer.uid)
                             : fmt::format("user {} (uid {})", peer.user, peer.uid);
}

RoleStep role_step(const Role& role, const PeerIdentity& peer) {
    std::vector<std::string> kept;
    std::vector<std::string> broken;
    const auto note = [&](const Role& key, std::string_view what, const std::string& value) {
        const bool held = key.held_by(peer);
        (held ? kept : broken)
            .push_back(fmt::format("{} {}", held ? "is" : "is not", held ? value : std::string(what)));
    };
    if (!role.users.empty()) note({.users = role.users}, "one of its users", user_text(peer));
    if (!role.groups.empty()) note({.groups = role.groups}, "in one of its groups", "in one of its groups");
    if (!role.sockets.empty())
        note({.sockets = role.sockets}, "on one of its sockets", fmt::format("on socket {}", peer.listener));
    return {role.name, broken.empty(), joined(broken.empty() ? kept : broken)};
}

std::vector<std::string> role_names(const Policy::Compiled& compiled, std::uint32_t selector) {
    std::vector<std::string> names;
    for (const std::uint32_t role : compiled.role_sets.roles(selector))
        names.push_back(compiled.role_names[role]);
    return names;
}

class Explainer {
  public:
    Explainer(const Policy& policy, const Peer& peer, OperationSet operations, RequestPath path,
              const Matches& matches, Explanation& explanation)
        : compiled_(policy.compiled()),
          peer_(peer),
          wanted_(operations),
          path_(path.text()),
          matches_(matches),
          explanation_(explanation) {}

    void run() {
        for (const Role& role : std::span(compiled_.roles).first(compiled_.named_roles))
            explanation_.roles.push_back(role_step(role, peer_.identity()));
        for (const auto& [index, match] : matches_) explanation_.rules.push_back(step(index, match));
        if (explanation_.decision && explanation_.decision->is_ancestor())
            explanation_.rules.push_back({.rule = &explanation_.decision->rule(),
                                          .pattern = "ancestors: stat",
                                          .outcome = Outcome::allows,
                                          .operations = wanted_});
        if (!explanation_.decision) find_misses();
    }

  private:
    bool refuses_by_rule() const {
        return !explanation_.decision && explanation_.decision.error().denied_by != nullptr;
    }

    RuleStep step(std::uint32_t index, const Match& match) {
        const Rule& rule = compiled_.rules[index];
        RuleStep step{.rule = &rule,
                      .pattern = std::string(compiled_.pattern(match.pattern)),
                      .operations = wanted_ & match.operations};
        if (step.operations.empty()) {
            step.outcome = Outcome::other_actions;
        } else if (!compiled_.role_sets.holds(peer_, match.roles)) {
            step.outcome = Outcome::other_peers;
        } else if (!rule.allows) {
            const bool first = explanation_.decision.error().denied_by == &rule;
            step.outcome = first ? Outcome::denies : Outcome::denies_too;
        } else if (refuses_by_rule()) {
            step.outcome = Outcome::overridden;
        } else {
            const OperationSet fresh = step.operations - granted_;
            granted_ = granted_ | step.operations;
            step.outcome = fresh.empty() ? Outcome::too_late : Outcome::allows;
            if (!fresh.empty()) step.operations = fresh;
        }
        return step;
    }

    void miss(const Rule& rule, std::string thing) {
        if (explanation_.misses.size() < max_near_misses)
            explanation_.misses.push_back({&rule, std::move(thing)});
    }

    // Operations missing after all rules that match: a rule that differs in a single thing would supply them.
    void find_misses() {
        const Refusal& refusal = explanation_.decision.error();
        if (refusal.denied_by != nullptr) {
            if (const Rule* const rule = allowed_but_for_denial())
                miss(*rule, fmt::format("rule \"{}\" denies {}", refusal.denied_by->name,
                                        to_text(refusal.operations)));
            return;
        }
        for (const auto& [index, match] : matches_) {
            const Rule& rule = compiled_.rules[index];
            if (!rule.allows) continue;
            const bool held = compiled_.role_sets.holds(peer_, match.roles);
            const OperationSet lacking = refusal.operations - match.operations;
            if (!held && lacking.empty()) {
                miss(rule, fmt::format("the peer holds none of its roles: {}",
                                       joined(role_names(compiled_, match.roles))));
            } else if (held && !(refusal.operations & rule.operations & lacking).empty()) {
                miss(rule, fmt::format("its pattern {} takes the directory itself for stat and list only",
                                       compiled_.pattern(match.pattern)));
            } else if (held) {
                miss(rule, fmt::format("it does not allow {}", to_text(lacking)));
            }
        }
        find_neighbours(refusal.operations);
    }

    // Rules that would allow it had they another pattern: those that name a directory above the path, nearest first.
    void find_neighbours(OperationSet lacking) {
        struct Neighbour {
            std::size_t depth = 0;
            std::uint32_t pattern = 0;
        };
        std::vector<Neighbour> neighbours;
        for (std::uint32_t index = 0; index < compiled_.pattern_ends.size(); ++index) {
            const std::uint32_t rule = compiled_.pattern_rules[index];
            if (!compiled_.rules[rule].allows || matches_.contains(rule) ||
                !compiled_.rules[rule].operations.contains_all(lacking) ||
                !compiled_.role_sets.holds(peer_, compiled_.rule_roles[rule]))
                continue;
            if (const std::size_t depth = depth_above(compiled_.pattern(index)); depth > 1)
                neighbours.push_back({depth, index});
        }
        std::ranges::sort(neighbours, {},
                          [](const Neighbour& one) { return std::pair(~one.depth, one.pattern); });
        for (const Neighbour& one : neighbours)
            miss(compiled_.rules[compiled_.pattern_rules[one.pattern]],
                 fmt::format("its pattern {} does not match", compiled_.pattern(one.pattern)));
    }

    // The length of the directory that the pattern names literally, when it is above the path; else 0.
    std::size_t depth_above(std::string_view pattern) const {
        std::size_t depth = 0;
        const auto parsed = parse_pattern(pattern);
        if (!parsed) return 0;
        for (const Pattern& one : *parsed) {
            const std::string directory = one.directory();
            const bool above =
                path_.starts_with(directory) && path_.substr(directory.size()).starts_with('/');
            if (above) depth = std::max(depth, directory.size());
        }
        return depth;
    }

    // The rule that would lead if nothing denied, when all operations are allowed.
    const Rule* allowed_but_for_denial() const {
        OperationSet open = wanted_;
        const Rule* first = nullptr;
        for (const auto& [index, match] : matches_) {
            const Rule& rule = compiled_.rules[index];
            if (!rule.allows || !open.intersects(match.operations) ||
                !compiled_.role_sets.holds(peer_, match.roles))
                continue;
            if (first == nullptr) first = &rule;
            open = open - match.operations;
        }
        return open.empty() ? first : nullptr;
    }

    const Policy::Compiled& compiled_;
    const Peer& peer_;
    OperationSet wanted_;
    std::string_view path_;
    const Matches& matches_;
    Explanation& explanation_;
    OperationSet granted_{};
};

std::string_view outcome_text(Outcome outcome) {
    switch (outcome) {
        case Outcome::denies:
            return "denies";
        case Outcome::denies_too:
            return "denies as well:";
        case Outcome::allows:
            return "allows";
        case Outcome::too_late:
            return "would allow, but an earlier rule does:";
        case Outcome::overridden:
            return "would allow, but for the deny rule:";
        case Outcome::other_peers:
            return "is for other peers:";
        case Outcome::other_actions:
            return "says nothing about this operation";
    }
    return "";
}

std::string place(const Rule& rule) {
    return fmt::format("{}:{}", rule.location.file, rule.location.line);
}

}  // namespace

Explanation explain(const Policy& policy, const Peer& peer, OperationSet operations, RequestPath path) {
    Explanation explanation(policy.decide(peer, operations, path));
    Collector collector;
    walk(policy.compiled().matcher, path, peer.values(), collector);
    Explainer(policy, peer, operations, path, collector.matches(), explanation).run();
    return explanation;
}

std::string to_text(OperationSet operations) {
    std::string text;
    for (unsigned index = 0; index < operation_count; ++index) {
        const auto operation = static_cast<Operation>(index);
        if (!operations.contains(operation)) continue;
        if (!text.empty()) text += ", ";
        text += to_string(operation);
    }
    return text;
}

std::string to_text(const Decision& decision) {
    if (decision) return fmt::format("allowed by rule \"{}\"", decision->rule().name);
    const Refusal& refusal = decision.error();
    if (refusal.denied_by != nullptr) return fmt::format("refused by rule \"{}\"", refusal.denied_by->name);
    return fmt::format("refused: no rule allows {}", to_text(refusal.operations));
}

std::string to_text(const Explanation& explanation, const Peer& peer, OperationSet operations,
                    RequestPath path) {
    std::string text = fmt::format("{} {} as {}: {}\n", to_text(operations), path.text(),
                                   user_text(peer.identity()), to_text(explanation.decision));
    if (!explanation.rules.empty()) text += "rules that match the path:\n";
    for (const RuleStep& step : explanation.rules) {
        const std::string what = step.operations.empty() ? "" : ' ' + to_text(step.operations);
        text += fmt::format("  {} rule \"{}\", {}: {}{}\n", place(*step.rule), step.rule->name, step.pattern,
                            outcome_text(step.outcome), what);
    }
    if (!explanation.roles.empty()) text += "roles:\n";
    for (const RoleStep& step : explanation.roles)
        text += fmt::format("  {}: {}, {}\n", step.role, step.held ? "held" : "not held", step.why);
    if (!explanation.misses.empty()) text += "would have been allowed, but for one thing:\n";
    for (const NearMiss& miss : explanation.misses)
        text += fmt::format("  {} rule \"{}\": {}\n", place(*miss.rule), miss.rule->name, miss.thing);
    return text;
}

}  // namespace fdbroker::policy
