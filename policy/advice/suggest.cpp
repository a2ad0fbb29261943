// SPDX-License-Identifier: MIT
#include "policy/advice/suggest.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "policy/advice/edit.hpp"
#include "policy/advice/generalise.hpp"
#include "policy/advice/guarded.hpp"
#include "policy/language/compile.hpp"

namespace fdbroker::policy {
namespace {

// Steps of a generalisation; beyond that the rules stay as they are.
constexpr std::size_t max_steps = 200;

SuggestedPeer peer_of(const PeerIdentity& identity) {
    // Everybody may come by the default listener.
    return {identity.uid, identity.user, identity.listener == "default" ? "" : identity.listener};
}

// The operations that each peer lacks for each path, and how many requests asked for them.
class Missing {
  public:
    void add(const RefusedRequest& request, OperationSet operations) {
        Wanted& wanted = wanted_[{peer_of(request.peer), request.path}];
        wanted.operations = wanted.operations | operations;
        wanted.requests += request.count;
    }

    // Paths that need the same operations share a rule, as do peers that need the same paths.
    std::vector<SuggestedRule> rules() const {
        std::map<std::pair<SuggestedPeer, std::uint16_t>, std::vector<SuggestedPath>> by_peer;
        for (const auto& [key, wanted] : wanted_)
            by_peer[{key.first, wanted.operations.bits()}].push_back(
                {pattern_of(key.second), wanted.requests, {key.second}});
        std::map<std::pair<std::uint16_t, std::vector<std::string>>, SuggestedRule> rules;
        for (auto& [key, paths] : by_peer) {
            std::vector<std::string> patterns;
            for (const SuggestedPath& path : paths) patterns.push_back(path.pattern);
            SuggestedRule& rule = rules[{key.second, patterns}];
            rule.operations = OperationSet::from_bits(key.second);
            rule.peers.push_back(key.first);
            if (rule.paths.empty()) {
                rule.paths = std::move(paths);
            } else {
                for (std::size_t index = 0; index < paths.size(); ++index)
                    rule.paths[index].requests += paths[index].requests;
            }
        }
        std::vector<SuggestedRule> list;
        for (auto& [key, rule] : rules) list.push_back(std::move(rule));
        std::ranges::stable_sort(list, [](const SuggestedRule& one, const SuggestedRule& other) {
            return one.peers < other.peers;
        });
        return list;
    }

  private:
    struct Wanted {
        OperationSet operations{};
        std::uint64_t requests = 0;
    };
    std::map<std::pair<SuggestedPeer, std::string>, Wanted> wanted_{};
};

class Generaliser {
  public:
    Generaliser(Suggestion& suggestion, const Accounts& accounts, const Guard& guard,
                const SuggestOptions& options)
        : suggestion_(suggestion), accounts_(accounts), guard_(guard), options_(options) {}

    void run() {
        for (std::size_t step = 0; step < max_steps && take_step(); ++step) continue;
    }

  private:
    bool take_step() {
        std::vector<Difference> opens;
        const GeneralisedRules next = generalise_once(
            suggestion_.rules, [&](GeneralisedRules& rules) { return acceptable(rules, opens); });
        if (next.rules.empty()) return false;
        suggestion_.generalisations.push_back({.from = next.from, .to = next.to, .opens = std::move(opens)});
        suggestion_.rules = next.rules;
        return true;
    }

    bool acceptable(GeneralisedRules& step, std::vector<Difference>& opens) const {
        const Guard::Reached reached = guard_.reached_by(step.to);
        constexpr std::string_view below = "/**";
        const bool keeps_out = reached == Guard::Reached::names && step.to.ends_with(below);
        if (reached != Guard::Reached::nothing && !keeps_out) return false;
        if (keeps_out) keep_keys_out(step, step.to.substr(0, step.to.size() - below.size()));
        const Policy before = policy_with(options_.policy, suggestion_.rules);
        const Policy after = policy_with(options_.policy, step.rules);
        opens = diff(before, after, accounts_).differences;
        // A deny rule must not take what the policy grants.
        if (std::ranges::any_of(opens, [](const Difference& one) { return one.kind == ChangeKind::lost; }))
            return false;
        std::erase_if(opens, [](const Difference& one) { return one.kind != ChangeKind::gained; });
        for (Difference& one : opens) one.before = one.after = nullptr;
        return true;
    }

    static void keep_keys_out(GeneralisedRules& step, const std::string& directory) {
        const auto wide = std::ranges::find_if(step.rules, [&](const SuggestedRule& rule) {
            return std::ranges::any_of(
                rule.paths, [&](const SuggestedPath& path) { return path.pattern == directory + "/**"; });
        });
        SuggestedRule deny{.peers = wide->peers, .operations = wide->operations, .denies = true};
        for (std::string& pattern : Guard::names_below(directory))
            deny.paths.push_back({.pattern = std::move(pattern)});
        step.rules.push_back(std::move(deny));
    }

    Suggestion& suggestion_;
    const Accounts& accounts_;
    const Guard& guard_;
    const SuggestOptions& options_;
};

}  // namespace

std::string_view to_string(LeftOut::Why why) noexcept {
    switch (why) {
        case LeftOut::Why::denied:
            return "a deny rule covers it";
        case LeftOut::Why::guarded:
            return "it is never suggested without --include";
        case LeftOut::Why::allowed_already:
            return "the policy allows it already";
        case LeftOut::Why::malformed:
            return "it can be allowed by no rule";
    }
    return "";
}

Policy policy_with(const Policy* base, const std::vector<SuggestedRule>& rules) {
    PolicyDraft draft = base != nullptr ? draft_of(*base) : PolicyDraft{};
    for (const SuggestedRule& rule : rules) {
        RuleDraft added;
        added.rule.name = "suggested";
        added.rule.allows = !rule.denies;
        added.rule.operations = rule.operations;
        for (const SuggestedPeer& peer : rule.peers)
            added.roles.push_back(role_of_user(
                draft, peer.uid, peer.user.empty() ? Meant::by_number : Meant::by_name, peer.socket));
        for (const SuggestedPath& path : rule.paths) added.paths.push_back(path_draft(path.pattern));
        draft.rules.push_back(std::move(added));
    }
    return compile(std::move(draft));
}

Suggestion suggest(const std::vector<RefusedRequest>& requests, const Accounts& accounts,
                   const SuggestOptions& options) {
    const Guard guard(options.include);
    Suggestion suggestion;
    Missing missing;
    for (const RefusedRequest& request : requests) {
        const auto leave_out = [&](LeftOut::Why why) { suggestion.left_out.push_back({request, why}); };
        const auto path = RequestPath::parse(request.path);
        if (!path || request.operations.empty()) {
            leave_out(LeftOut::Why::malformed);
            continue;
        }
        OperationSet lacking = request.operations;
        bool denied = request.denied;
        if (options.policy != nullptr) {
            const Decision decision =
                options.policy->decide(options.policy->identify(request.peer), request.operations, *path);
            if (decision) {
                leave_out(LeftOut::Why::allowed_already);
                continue;
            }
            denied = decision.error().denied_by != nullptr;
            lacking = decision.error().operations;
        }
        if (denied) {
            leave_out(LeftOut::Why::denied);
        } else if (guard.holds_back(*path)) {
            leave_out(LeftOut::Why::guarded);
        } else {
            missing.add(request, lacking);
            suggestion.allowed.push_back(request);
        }
    }
    suggestion.rules = missing.rules();
    if (options.generalise == Generalise::yes) Generaliser(suggestion, accounts, guard, options).run();
    return suggestion;
}

}  // namespace fdbroker::policy
