// SPDX-License-Identifier: MIT
// How differences between policies are told.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "opener/ctl/json.hpp"
#include "opener/ctl/policy_diff.hpp"
#include "opener/ctl/terminal.hpp"
#include "policy/explain/explain.hpp"
#include "policy/matching/creation_group.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using policy::ChangeKind;
using policy::Difference;
using policy::Rule;
using policy::Setting;

namespace {

// Peers that are named beside a difference; the others are counted.
constexpr std::size_t max_named_peers = 4;

constexpr std::array<std::string_view, 7> type_words{"regular",          "directory",    "fifo",   "socket",
                                                     "character_device", "block_device", "symlink"};

std::string id_text(const std::optional<std::uint32_t>& id, std::string_view own) {
    return id ? std::to_string(*id) : std::string(own);
}

std::string create_text(const policy::Creation& create) {
    const std::string group =
        create.group == policy::group_of_directory ? "directory" : id_text(create.group, "${group}");
    return fmt::format("mode {:04o}, owner {}, group {}{}", create.mode, id_text(create.owner, "${user}"),
                       group, create.parents ? ", parents" : "");
}

std::string files_text(const Rule& rule) {
    const policy::FileConditions& files = rule.files;
    std::vector<std::string> parts;
    std::vector<std::string_view> types;
    for (unsigned type = 0; type < type_words.size(); ++type)
        if (files.allows(static_cast<policy::FileType>(type))) types.push_back(type_words[type]);
    parts.push_back(fmt::format("types [{}]", fmt::join(types, ", ")));
    if (files.max_links) {
        parts.push_back(*files.max_links == policy::any_links
                            ? "max_links any"
                            : fmt::format("max_links {}", *files.max_links));
    } else {
        parts.emplace_back(rule.operations.intersects(policy::content_changing_operations)
                               ? "max_links 1 (since the rule lets write)"
                               : "max_links as the system protects them");
    }
    if (files.max_size) parts.push_back(fmt::format("max_size {}", *files.max_size));
    if (files.same_mount) parts.emplace_back("same_mount");
    std::vector<std::string> owners;
    if (files.peer_owns) owners.emplace_back("${user}");
    for (const std::uint32_t owner : files.owners) owners.push_back(std::to_string(owner));
    if (!owners.empty()) parts.push_back(fmt::format("owners [{}]", fmt::join(owners, ", ")));
    return fmt::format("{}", fmt::join(parts, ", "));
}

std::string_view kind_word(ChangeKind kind) {
    switch (kind) {
        case ChangeKind::gained:
            return "gained";
        case ChangeKind::lost:
            return "lost";
        case ChangeKind::settings:
            return "settings";
        case ChangeKind::reveal:
            return "reveal";
    }
    return "";
}

std::string who_text(const Difference& difference) {
    if (difference.every_peer) return "every peer";
    std::string text;
    for (std::size_t index = 0; index < std::min(difference.peers.size(), max_named_peers); ++index)
        text += (index == 0 ? "" : "; ") + difference.peers[index];
    if (difference.peers.size() > max_named_peers)
        text += fmt::format("; and {} more", difference.peers.size() - max_named_peers);
    return text;
}

std::string rule_text(const Rule* rule, const std::string& pattern) {
    if (rule == nullptr) return "no rule allows it";
    return fmt::format("{} by rule \"{}\" ({}:{}), {}", rule->allows ? "allowed" : "refused", rule->name,
                       rule->location.file, rule->location.line, pattern);
}

std::string reveal_text(const Rule* rule) {
    return rule != nullptr && rule->reveal == policy::Reveal::enoent ? " as ENOENT" : " as EACCES";
}

json rule_to_json(const Rule* rule, const std::string& pattern) {
    if (rule == nullptr) return nullptr;
    json one{{"rule", rule->name},
             {"location", to_json(rule->location)},
             {"pattern", pattern},
             {"allows", rule->allows}};
    if (!rule->allows) one["reveal"] = rule->reveal == policy::Reveal::enoent ? "ENOENT" : "EACCES";
    return one;
}

// A setting of a rule in the words of the policy language: "mode 0640, owner ${user}".
std::string setting_text(const Rule& rule, bool ancestor, Setting setting) {
    static constexpr std::array<std::string_view, 3> deliveries{"descriptor", "snapshot", "stream"};
    switch (setting) {
        case Setting::create:
            return create_text(rule.create);
        case Setting::deliver:
            return std::string(deliveries[static_cast<std::size_t>(rule.delivery)]);
        case Setting::files:
            return files_text(rule);
        case Setting::symlinks:
            return rule.symlinks == policy::Symlinks::follow ? "follow" : "refuse";
        case Setting::deadline:
            return fmt::format("{} ms", rule.deadline.count());
        case Setting::rename:
            return rule.rename_directories ? "directories" : "no directories";
        case Setting::ancestors:
            return ancestor ? "that it is a directory, and nothing else" : "all that stat tells";
    }
    return "";
}

struct SettingTexts {
    std::string before, after;
};
SettingTexts texts_of(const Difference& difference, Setting setting) {
    return {setting_text(*difference.before, difference.was_ancestor, setting),
            setting_text(*difference.after, difference.is_ancestor, setting)};
}

}  // namespace

std::string to_text(const Difference& difference, bool colour) {
    static constexpr std::array<std::string_view, 4> beginnings{
        "may newly", "may no longer", "may as before, under other conditions:", "is refused in another way:"};
    static constexpr std::array<std::string_view, 4> signs{"+", "-", "~", "~"};
    const auto kind = static_cast<std::size_t>(difference.kind);
    const bool opens = difference.kind == ChangeKind::gained;
    std::string text = painted(signs[kind], opens ? Colour::green : Colour::red, colour);
    text += printable(fmt::format(" {} {} {}\n", who_text(difference), beginnings[kind],
                                  policy::to_text(difference.operations)));
    const bool refusals = difference.kind == ChangeKind::reveal;
    const auto line = [&](std::string_view what, const std::string& content) {
        text += printable(fmt::format("    {:<9}{}", what, content)) + "\n";
    };
    line("example", difference.path);
    line("before", rule_text(difference.before, difference.pattern_before) +
                       (refusals ? reveal_text(difference.before) : ""));
    line("after", rule_text(difference.after, difference.pattern_after) +
                      (refusals ? reveal_text(difference.after) : ""));
    for (const Setting setting : difference.settings) {
        const auto [before, after] = texts_of(difference, setting);
        line(policy::to_string(setting), fmt::format("{} -> {}", before, after));
    }
    return text;
}

json to_json(const Difference& difference) {
    json settings = json::array();
    for (const Setting setting : difference.settings) {
        const auto [before, after] = texts_of(difference, setting);
        settings.push_back({{"key", policy::to_string(setting)}, {"before", before}, {"after", after}});
    }
    json peers = json::array();
    for (const std::string& peer : difference.peers) peers.push_back(printable(peer));
    return {{"kind", kind_word(difference.kind)},
            {"operations", to_json(difference.operations)},
            {"every_peer", difference.every_peer},
            {"peers", std::move(peers)},
            {"example", {{"path", printable(difference.path)}, {"peer", to_json(difference.peer)}}},
            {"before", rule_to_json(difference.before, difference.pattern_before)},
            {"after", rule_to_json(difference.after, difference.pattern_after)},
            {"settings", std::move(settings)}};
}

std::string summary(const policy::PolicyDiff& found) {
    if (found.empty()) return "no difference";
    std::vector<std::string> parts;
    const auto count = [&](ChangeKind kind, std::string_view words) {
        const auto number = std::ranges::count(found.differences, kind, &Difference::kind);
        if (number != 0) parts.push_back(fmt::format("{} {}", number, words));
    };
    count(ChangeKind::gained, "gained");
    count(ChangeKind::lost, "lost");
    count(ChangeKind::settings, "under other conditions");
    count(ChangeKind::reveal, "refused in another way");
    if (!found.values.empty()) parts.push_back(fmt::format("{} of limits and audit", found.values.size()));
    return fmt::format("{}", fmt::join(parts, ", "));
}

json to_json(const policy::Proof& proof) {
    return {{"all_paths", proof.all_paths},      {"all_peers", proof.all_peers},
            {"peers_tried", proof.values_tried}, {"states", proof.states},
            {"paths_sampled", proof.sampled},    {"not_compared", proof.not_compared}};
}

}  // namespace fdbroker::ctl
