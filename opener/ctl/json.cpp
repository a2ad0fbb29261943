// SPDX-License-Identifier: MIT
#include "opener/ctl/json.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "opener/ctl/terminal.hpp"

namespace fdbroker::ctl {

using nlohmann::json;

namespace {

json step_to_json(const DiskStep& step) {
    json one{{"path", printable(step.path)}, {"type", describe(step.type)}, {"owner", step.owner},
             {"mode", octal(step.mode)},     {"links", step.links},         {"size", step.size}};
    if (step.type != policy::FileType::symlink) return one;
    one["target"] = printable(step.target);
    one["leads_to"] = printable(step.leads_to);
    return one;
}

json obstacle_to_json(const std::optional<opener::Obstacle>& obstacle) {
    if (!obstacle) return nullptr;
    return {{"errno", ::strerrorname_np(obstacle->errno_value)}, {"reason", obstacle->text}};
}

}  // namespace

void print_json(const json& document) {
    print_raw(document.dump(2, ' ', true, json::error_handler_t::replace) + '\n');
}

json to_json(const DiskReport& report) {
    json steps = json::array(), rules = json::array();
    for (const DiskStep& step : report.steps) steps.push_back(step_to_json(step));
    for (const RuleVerdict& verdict : report.verdicts)
        rules.push_back({{"rule", verdict.rule}, {"obstacle", obstacle_to_json(verdict.obstacle)}});
    json obstacle;
    if (report.obstacle)
        obstacle = {{"errno", ::strerrorname_np(report.obstacle->errno_value)},
                    {"reason", report.obstacle->reason},
                    {"path", printable(report.obstacle->path)}};
    return {{"steps", std::move(steps)}, {"rules", std::move(rules)}, {"obstacle", std::move(obstacle)}};
}

}  // namespace fdbroker::ctl
