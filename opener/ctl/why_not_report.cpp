// SPDX-License-Identifier: MIT
#include "opener/ctl/why_not_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "opener/ctl/json.hpp"
#include "opener/ctl/terminal.hpp"
#include "policy/explain/explain.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using policy::Difference;
using policy::WhyNotEdit;

namespace {

constexpr std::size_t max_opened_by_edit = 3;  // that are told of an edit, in text

std::string place(const policy::Rule* rule) {
    return rule == nullptr ? std::string() : fmt::format("{}:{} ", rule->location.file, rule->location.line);
}

std::string who(const Difference& opened) {
    if (opened.every_peer) return "every peer";
    if (opened.peers.size() <= 2) return fmt::format("{}", fmt::join(opened.peers, "; "));
    return fmt::format("{}; and {} more", opened.peers.front(), opened.peers.size() - 1);
}

}  // namespace

std::string why_not_text(const std::vector<WhyNotEdit>& edits) {
    if (edits.empty()) return {};
    std::string text = "would be allowed after one of these edits, the smallest first:\n";
    unsigned number = 0;
    for (const WhyNotEdit& edit : edits) {
        ++number;
        for (std::size_t index = 0; index < edit.changes.size(); ++index)
            text += fmt::format("  {} {}{}\n", index == 0 ? fmt::format("{}.", number) : "   and",
                                place(edit.rules[index]), edit.changes[index]);
        if (edit.opens.empty()) text += "     opens nothing else\n";
        for (std::size_t index = 0; index < std::min(edit.opens.size(), max_opened_by_edit); ++index)
            text +=
                fmt::format("     opens also: {} for {}, such as {}\n", to_text(edit.opens[index].operations),
                            who(edit.opens[index]), edit.opens[index].path);
        if (edit.opens.size() > max_opened_by_edit)
            text += fmt::format("     and {} more\n", edit.opens.size() - max_opened_by_edit);
        if (!edit.all_paths) text += "     (not all paths were compared)\n";
    }
    return text;
}

json why_not_to_json(const std::vector<WhyNotEdit>& edits) {
    json all = json::array();
    for (const WhyNotEdit& edit : edits) {
        json changes = json::array(), opens = json::array();
        for (std::size_t index = 0; index < edit.changes.size(); ++index) {
            const policy::Rule* const rule = edit.rules[index];
            changes.push_back({{"change", edit.changes[index]},
                               {"rule", rule != nullptr ? json(rule->name) : json()},
                               {"location", rule != nullptr ? to_json(rule->location) : json()}});
        }
        for (const Difference& opened : edit.opens)
            opens.push_back(
                {{"operations", to_json(opened.operations)},
                 {"every_peer", opened.every_peer},
                 {"peers", opened.peers},
                 {"example", {{"path", printable(opened.path)}, {"peer", to_json(opened.peer)}}}});
        all.push_back({{"changes", std::move(changes)},
                       {"opens", std::move(opens)},
                       {"all_paths", edit.all_paths},
                       {"all_peers", edit.all_peers}});
    }
    return all;
}

}  // namespace fdbroker::ctl
