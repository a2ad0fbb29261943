// SPDX-License-Identifier: MIT
#include "policy/advice/why_not.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "policy/advice/edit.hpp"
#include "policy/explain/explain.hpp"
#include "policy/language/compile.hpp"
#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

// Rules that are tried with one more pattern: the nearest.
constexpr std::size_t max_neighbours = 3;
// Edits whose effect is looked at.
constexpr std::size_t max_candidates = 24;

struct Candidate {
    PolicyDraft draft{};
    std::vector<std::string> changes{};
    std::vector<const Rule*> rules{};
};

std::string user_word(const PeerIdentity& peer) {
    return peer.user.empty() ? std::to_string(peer.uid) : peer.user;
}

class Candidates {
  public:
    Candidates(const Policy& policy, const PeerIdentity& peer, OperationSet operations, RequestPath path)
        : policy_(policy),
          peer_(peer),
          operations_(operations),
          path_(path),
          decision_(policy.decide(policy.identify(peer), operations, path)),
          explanation_(explain(policy, policy.identify(peer), operations, path)) {}

    std::vector<Candidate> find() {
        if (decision_) return {};
        if (decision_.error().denied_by != nullptr) {
            lift_denials();
        } else {
            grant(start(), decision_.error().operations);
        }
        if (found_.size() > max_candidates) found_.resize(max_candidates);
        return std::move(found_);
    }

  private:
    std::uint32_t index_of(const Rule* rule) const {
        return static_cast<std::uint32_t>(rule - policy_.rules().data());
    }
    Candidate start() const { return {.draft = draft_of(policy_)}; }
    void add(Candidate candidate, const Rule* rule, std::string change) {
        candidate.changes.push_back(std::move(change));
        candidate.rules.push_back(rule);
        found_.push_back(std::move(candidate));
    }

    // All that would supply the operations, on top of what has been changed already.
    void grant(const Candidate& base, OperationSet lacking) {
        const Peer peer = policy_.identify(peer_);
        for (const RuleStep& step : explanation_.rules) {
            if (!step.rule->allows) continue;
            const std::uint32_t index = index_of(step.rule);
            const bool held = policy_.compiled().role_sets.holds(peer, policy_.compiled().rule_roles[index]);
            if (held) add_operations(base, index, lacking);
            if (!held && step.rule->operations.contains_all(lacking)) add_role(base, index);
        }
        for (const NearMiss& miss : explanation_.misses) add_pattern(base, index_of(miss.rule), lacking);
        add_rule(base, lacking);
    }

    void add_operations(Candidate base, std::uint32_t index, OperationSet lacking) {
        const Rule& rule = policy_.rules()[index];
        const OperationSet more = lacking - rule.operations;
        if (more.empty()) return;
        base.draft.rules[index].rule.operations = rule.operations | more;
        add(std::move(base), &rule, fmt::format("rule \"{}\": allow: add {}", rule.name, to_text(more)));
    }

    void add_role(Candidate base, std::uint32_t index) {
        const Rule& rule = policy_.rules()[index];
        base.draft.rules[index].roles.push_back(
            role_of_user(base.draft, peer_.uid, peer_.user.empty() ? Meant::by_number : Meant::by_name, {}));
        add(std::move(base), &rule,
            fmt::format("rule \"{}\": roles: add a role of {{users: [{}]}}", rule.name, user_word(peer_)));
    }

    void add_pattern(Candidate base, std::uint32_t index, OperationSet lacking) {
        const Rule& rule = policy_.rules()[index];
        const Peer peer = policy_.identify(peer_);
        const bool fits = rule.allows && rule.operations.contains_all(lacking) &&
                          policy_.compiled().role_sets.holds(peer, policy_.compiled().rule_roles[index]);
        if (!fits || neighbours_++ >= max_neighbours) return;
        const std::string pattern = pattern_of(path_.text());
        base.draft.rules[index].paths.push_back(path_draft(pattern));
        add(std::move(base), &rule, fmt::format("rule \"{}\": paths: add \"{}\"", rule.name, pattern));
    }

    void add_rule(Candidate base, OperationSet lacking) {
        const std::string pattern = pattern_of(path_.text());
        RuleDraft rule;
        rule.rule.name = "new";
        rule.rule.allows = true;
        rule.rule.operations = lacking;
        rule.roles.push_back(
            role_of_user(base.draft, peer_.uid, peer_.user.empty() ? Meant::by_number : Meant::by_name, {}));
        rule.paths.push_back(path_draft(pattern));
        base.draft.rules.push_back(std::move(rule));
        add(std::move(base), nullptr,
            fmt::format("a new rule: roles: one of {{users: [{}]}}, allow: [{}], paths: [\"{}\"]",
                        user_word(peer_), to_text(lacking), pattern));
    }

    // Every rule that denies must let go; then what is not allowed at all must be.
    void lift_denials() {
        Candidate fewer = start();
        Candidate narrower = start();
        Candidate removed = start();
        bool narrows = true;
        for (const RuleStep& step : explanation_.rules) {
            if (step.outcome != RuleStep::Outcome::denies && step.outcome != RuleStep::Outcome::denies_too)
                continue;
            const std::uint32_t index = index_of(step.rule);
            const auto note = [&](Candidate& candidate, std::string change) {
                candidate.rules.push_back(step.rule);
                candidate.changes.push_back(std::move(change));
            };
            fewer.draft.rules[index].rule.operations = step.rule->operations - operations_;
            note(fewer, fmt::format("rule \"{}\": deny: leave out {}", step.rule->name,
                                    to_text(step.rule->operations & operations_)));
            auto& paths = narrower.draft.rules[index].paths;
            std::erase_if(paths, [&](const PathDraft& one) { return one.text == step.pattern; });
            narrows = narrows && !paths.empty();
            note(narrower, fmt::format("rule \"{}\": paths: leave out {}", step.rule->name, step.pattern));
            removed.draft.rules[index].rule.operations = {};
            note(removed, fmt::format("rule \"{}\": leave it out", step.rule->name));
        }
        lifted(std::move(fewer));
        if (narrows) lifted(std::move(narrower));
        lifted(std::move(removed));
    }

    void lifted(Candidate candidate) {
        std::erase_if(candidate.draft.rules,
                      [](const RuleDraft& rule) { return rule.rule.operations.empty(); });
        PolicyDraft copy = candidate.draft;
        const Policy edited = compile(std::move(copy));
        const Decision decision = edited.decide(edited.identify(peer_), operations_, path_);
        if (decision) {
            found_.push_back(std::move(candidate));
        } else if (decision.error().denied_by == nullptr) {
            add_rule(std::move(candidate), decision.error().operations);
        }
    }

    const Policy& policy_;
    const PeerIdentity& peer_;
    OperationSet operations_;
    RequestPath path_;
    Decision decision_;
    Explanation explanation_;
    std::size_t neighbours_ = 0;
    std::vector<Candidate> found_{};
};

}  // namespace

std::vector<WhyNotEdit> why_not(const Policy& policy, const Accounts& accounts, const PeerIdentity& peer,
                                OperationSet operations, RequestPath path) {
    std::vector<WhyNotEdit> edits;
    for (Candidate& candidate : Candidates(policy, peer, operations, path).find()) {
        const Policy edited = compile(std::move(candidate.draft));
        if (!edited.decide(edited.identify(peer), operations, path)) continue;
        PolicyDiff found = diff(policy, edited, accounts, {.apart = std::string(path.text())});
        // The request itself is no surprise.
        std::erase_if(found.differences, [&](const Difference& one) {
            const bool asked = one.path == path.text() && operations.contains_all(one.operations) &&
                               !one.every_peer && one.peers.size() == 1 && one.peer.uid == peer.uid;
            return one.kind != ChangeKind::gained || asked;
        });
        for (Difference& one : found.differences) one.after = nullptr;
        edits.push_back({std::move(candidate.changes), std::move(candidate.rules),
                         std::move(found.differences), found.proof.all_paths, found.proof.all_peers});
    }
    std::ranges::stable_sort(edits, [](const WhyNotEdit& one, const WhyNotEdit& other) {
        return std::pair(one.changes.size(), one.opens.size()) <
               std::pair(other.changes.size(), other.opens.size());
    });
    if (edits.size() > max_edits) edits.resize(max_edits);
    return edits;
}

}  // namespace fdbroker::policy
