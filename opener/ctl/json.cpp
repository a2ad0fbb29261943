#include "opener/ctl/json.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "opener/ctl/terminal.hpp"
#include "policy/peer.hpp"

namespace fdbroker::ctl {

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

json step_to_json(const DiskStep& step) {
    json one{{"path", step.path},        {"type", describe(step.type)}, {"owner", step.owner},
             {"mode", octal(step.mode)}, {"links", step.links},         {"size", step.size}};
    if (step.type != policy::FileType::symlink) return one;
    one["target"] = step.target;
    one["leads_to"] = step.leads_to;
    return one;
}

json obstacle_to_json(const std::optional<opener::Obstacle>& obstacle) {
    if (!obstacle) return nullptr;
    return {{"errno", ::strerrorname_np(obstacle->errno_value)}, {"reason", obstacle->text}};
}

}  // namespace

void print_json(const json& document) {
    print_raw(document.dump(2, ' ', false, json::error_handler_t::replace) + '\n');
}

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

json to_json(const DiskReport& report) {
    json steps = json::array(), rules = json::array();
    for (const DiskStep& step : report.steps) steps.push_back(step_to_json(step));
    for (const RuleVerdict& verdict : report.verdicts)
        rules.push_back({{"rule", verdict.rule->name}, {"obstacle", obstacle_to_json(verdict.obstacle)}});
    json obstacle = obstacle_to_json(report.obstacle);
    if (report.obstacle) obstacle["path"] = report.ended_at;
    return {{"steps", std::move(steps)}, {"rules", std::move(rules)}, {"obstacle", std::move(obstacle)}};
}

}  // namespace fdbroker::ctl
