// SPDX-License-Identifier: MIT
#include "policy/explain/ruling.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "policy/matching/rename.hpp"

namespace fdbroker::policy {

namespace {

bool follows(const Grant& grant) {
    return std::ranges::all_of(grant.rules(),
                               [](const Rule* rule) { return rule->symlinks == Symlinks::follow; });
}

}  // namespace

Ruling Judgement::rule_rename(const Policy& policy, const Peer& peer) {
    const auto from = RequestPath::parse(path_);
    const auto to = RequestPath::parse(other_path_);
    if (!from || !to) return {.basis = Ruling::Basis::undecided};
    const auto decision = decide_rename(policy, peer, *from, *to);
    if (decision) return {.allowed = true, .rule = &decision->from.rule()};
    if (!decision.error().gains.empty()) return {.basis = Ruling::Basis::gains};
    return {.rule = decision.error().refusal.denied_by};
}

Ruling Judgement::rule(const Policy& policy, const Peer& peer, const DecidedRequest& request) {
    path_ = request.path;
    if (request.renames) {
        other_path_ = request.new_path;
        return rule_rename(policy, peer);
    }
    const auto path = RequestPath::parse(path_);
    if (!path || request.operations.empty()) return {.basis = Ruling::Basis::undecided};
    const Decision decision = policy.decide(peer, request.operations, *path);
    if (!decision) return {.rule = decision.error().denied_by};
    if (request.final_path.empty()) return {.allowed = true, .rule = &decision->rule()};
    if (!follows(*decision)) return {.basis = Ruling::Basis::links, .rule = &decision->rule()};
    other_path_ = request.final_path;
    const auto led_to = RequestPath::parse(other_path_);
    if (!led_to) return {.basis = Ruling::Basis::undecided};
    const Decision there = policy.decide(peer, request.operations, *led_to);
    if (!there) return {.rule = there.error().denied_by};
    return {.allowed = true, .rule = &there->rule()};
}

std::string to_text(const Ruling& ruling) {
    switch (ruling.basis) {
        case Ruling::Basis::gains:
            return "the new name would allow what the old one does not";
        case Ruling::Basis::undecided:
            return "it cannot be decided";
        case Ruling::Basis::rule:
        case Ruling::Basis::links:
            break;
    }
    if (ruling.rule == nullptr) return "no rule allows it";
    const char* verb = ruling.allowed ? "allows it" : "denies it";
    if (ruling.basis == Ruling::Basis::links) verb = "follows no symbolic link";
    return fmt::format("rule \"{}\" {} ({}:{})", ruling.rule->name, verb, ruling.rule->location.file,
                       ruling.rule->location.line);
}

}  // namespace fdbroker::policy
