// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_json.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "policy/matching/peer.hpp"

namespace fdbroker::opener {

using nlohmann::json;

namespace {

const char* word(policy::RuleStep::Outcome outcome) noexcept {
    using Outcome = policy::RuleStep::Outcome;
    switch (outcome) {
        case Outcome::denies:
            return "denies";
        case Outcome::denies_too:
            return "denies-too";
        case Outcome::allows:
            return "allows";
        case Outcome::too_late:
            return "too-late";
        case Outcome::overridden:
            return "overridden";
        case Outcome::other_peers:
            return "other-peers";
        case Outcome::other_actions:
            return "other-operations";
    }
    return "";
}

json named(const policy::Rule& rule) {
    return {{"rule", rule.name}, {"location", to_json(rule.location)}};
}

json decision_to_json(const policy::Decision& decision) {
    if (decision) {
        json granted = named(decision->rule());
        granted["allowed"] = true;
        granted["rules"] = json::array();
        for (const policy::Rule* rule : decision->rules()) granted["rules"].push_back(rule->name);
        return granted;
    }
    const policy::Refusal& refusal = decision.error();
    json refused = refusal.denied_by != nullptr ? named(*refusal.denied_by)
                                                : json{{"rule", nullptr}, {"location", nullptr}};
    refused["allowed"] = false;
    refused["operations"] = to_json(refusal.operations);
    refused["errno"] = ::strerrorname_np(refusal.errno_value);
    return refused;
}

}  // namespace

json to_json(const policy::Location& location) {
    if (location.line == 0) return {{"file", location.file}, {"line", nullptr}, {"column", nullptr}};
    return {{"file", location.file}, {"line", location.line}, {"column", location.column}};
}

json to_json(const policy::PeerIdentity& peer) {
    const auto name = [](const std::string& text) { return text.empty() ? json() : json(text); };
    const json gid = peer.gid == policy::no_group ? json() : json(peer.gid);
    return {{"uid", peer.uid},           {"user", name(peer.user)}, {"gid", gid},
            {"group", name(peer.group)}, {"groups", peer.groups},   {"socket", name(peer.listener)}};
}

json to_json(policy::OperationSet operations) {
    json words = json::array();
    for (unsigned index = 0; index < policy::operation_count; ++index) {
        const auto operation = static_cast<policy::Operation>(index);
        if (operations.contains(operation)) words.push_back(to_string(operation));
    }
    return words;
}

json to_json(const policy::Explanation& explanation) {
    json roles = json::array(), rules = json::array(), misses = json::array();
    for (const policy::RoleStep& step : explanation.roles)
        roles.push_back({{"role", step.role}, {"held", step.held}, {"why", step.why}});
    for (const policy::RuleStep& step : explanation.rules) {
        json one = named(*step.rule);
        one["pattern"] = step.pattern;
        one["outcome"] = word(step.outcome);
        one["operations"] = to_json(step.operations);
        rules.push_back(std::move(one));
    }
    for (const policy::NearMiss& miss : explanation.misses) {
        json one = named(*miss.rule);
        one["thing"] = miss.thing;
        misses.push_back(std::move(one));
    }
    return {{"decision", decision_to_json(explanation.decision)},
            {"roles", std::move(roles)},
            {"rules", std::move(rules)},
            {"near_misses", std::move(misses)}};
}

}  // namespace fdbroker::opener
