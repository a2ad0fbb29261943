// SPDX-License-Identifier: MIT
#include "opener/control/shadow_answer.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "opener/base/byte_text.hpp"
#include "opener/control/time_of_day.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using nlohmann::json;

namespace {

json to_json(const Shadow::Group& group) {
    json paths = json::array();
    for (const auto& [path, asked] : group.paths)
        paths.push_back({{"path", characters_of(path)},
                         {"requests", asked.requests},
                         {"user", characters_of(asked.user)}});
    const bool has_rule = group.after.rule != nullptr;
    return {{"would_be", group.granted ? "refused" : "allowed"},
            {"rule", group.before.empty() ? json() : json(group.before)},
            {"shadow_rule", has_rule ? json(group.after.rule->name) : json()},
            {"because", policy::to_text(group.after)},
            {"requests", group.requests},
            {"paths", std::move(paths)},
            {"requests_of_other_paths", group.other_paths}};
}

std::string printed(const json& value) {
    const auto text = value.get<std::string>();
    return proto::printable(bytes_of(text).value_or(text), proto::LineFeeds::escaped);
}

std::string group_text(const json& group, const TextStyle& style) {
    const bool refused = group["would_be"] == "refused";
    std::string text = fmt::format("{}would be {}{}: {} requests; {}\n", refused ? style.bad : style.good,
                                   group["would_be"].get<std::string>(), style.end, group["requests"].dump(),
                                   printed(group["because"]));
    text += group["rule"].is_null() ? std::string("  now: no rule\n")
                                    : fmt::format("  now: rule \"{}\"\n", printed(group["rule"]));
    for (const json& path : group["paths"])
        text += fmt::format("  {:>8}  {}  [{}]\n", path["requests"].dump(), printed(path["path"]),
                            printed(path["user"]));
    if (group["requests_of_other_paths"] != 0)
        text += fmt::format("  {:>8}  of other paths\n", group["requests_of_other_paths"].dump());
    return text;
}

}  // namespace

json answer_shadow(const GenerationFacts& facts) {
    if (facts.shadow == nullptr) return {{"shadow", nullptr}};
    const Shadow& shadow = *facts.shadow;
    const Shadow::Counts& counts = shadow.counts();
    const auto last = shadow.last_difference();
    json groups = json::array();
    for (const Shadow::Group* group : shadow.groups()) groups.push_back(to_json(*group));
    return {{"shadow", characters_of(shadow.file())},
            {"policy_sha256", shadow.digest()},
            {"since", time_text(shadow.since())},
            {"seconds", seconds_since(shadow.since())},
            {"clean_for", seconds_since(last.value_or(shadow.since()))},
            {"decisions", counts.decisions},
            {"would_be_allowed", counts.would_be_allowed},
            {"would_be_refused", counts.would_be_refused},
            {"last_difference", last ? json(time_text(*last)) : json()},
            {"groups", std::move(groups)},
            {"requests_of_other_groups", shadow.requests_of_other_groups()}};
}

std::string shadow_text(const json& answer, const TextStyle& style) {
    if (answer["shadow"].is_null()) return "no candidate decides beside the policy\n";
    std::string text = fmt::format("{} decides beside the policy since {}, without effect\n",
                                   printed(answer["shadow"]), answer["since"].get<std::string>());
    for (const json& group : answer["groups"]) text += group_text(group, style);
    if (answer["requests_of_other_groups"] != 0)
        text += fmt::format("{} requests by more pairs of rules than are kept apart\n",
                            answer["requests_of_other_groups"].dump());
    return text +
           fmt::format("{} decisions: {} would be refused, {} would be allowed; no difference for {} s\n",
                       answer["decisions"].dump(), answer["would_be_refused"].dump(),
                       answer["would_be_allowed"].dump(), answer["clean_for"].dump());
}

}  // namespace fdbroker::opener
