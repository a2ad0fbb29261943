// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "opener/ctl/audit_commands.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/progress.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/records/record_files.hpp"
#include "opener/records/report_page.hpp"
#include "opener/records/summary.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using records::ReportPage;
using records::Summary;

namespace {

// The rules of a policy that no record names. The summary forgets rare rules; these names are as many as the policy has.
class UnusedRules {
  public:
    explicit UnusedRules(const policy::Policy& policy) {
        for (const policy::Rule& rule : policy.rules())
            unused_.emplace(rule.name, fmt::format("{}:{}", rule.location.file, rule.location.line));
    }
    void used(std::string_view name) {
        const auto found = unused_.find(name);
        if (found != unused_.end()) unused_.erase(found);
    }
    std::vector<records::PolicyRule> left() const {
        std::vector<records::PolicyRule> rules;
        for (const auto& [name, at] : unused_) rules.push_back({name, at});
        return rules;
    }

  private:
    std::map<std::string, std::string, std::less<>> unused_{};
};

// ---- JSON ----------------------------------------------------------------------------------------------

json line_text(const std::string& text) {
    return printable(text, proto::LineFeeds::escaped);
}

json report_to_json(const records::Tally& tally) {
    return {{"requests", tally.requests}, {"first", tally.first}, {"last", tally.last}};
}

json report_to_json(const records::Both& both) {
    return {{"allowed", report_to_json(both.allowed)}, {"refused", report_to_json(both.refused)}};
}

json report_to_json(const records::RequestKind& kind, const records::Tally& tally) {
    json one = report_to_json(tally);
    one["user"] = line_text(kind.user);
    one["listener"] = line_text(kind.listener);
    one["asked"] = line_text(kind.asked);
    one["path"] = line_text(kind.path);
    one["rule"] = kind.rule.empty() ? json() : line_text(kind.rule);
    one["at"] = kind.at.empty() ? json() : line_text(kind.at);
    if (!kind.reason.empty()) one["reason"] = line_text(kind.reason);
    return one;
}

template <typename Kinds>
json requests_to_json(const Kinds& kinds) {
    json all = json::array();
    std::uint64_t others = kinds.others();
    for (const auto& [kind, tally] : kinds.sorted())
        if (all.size() < records::max_rows)
            all.push_back(report_to_json(*kind, *tally));
        else
            others += tally->requests;
    return {{"kinds", std::move(all)}, {"requests_of_others", others}};
}

template <typename Pairs>
json pairs_to_json(const Pairs& pairs, const char* first, const char* second) {
    json all = json::array();
    for (const auto& [key, both] : pairs.sorted()) {
        json one = report_to_json(*both);
        one[first] = line_text(key->first);
        one[second] = line_text(key->second);
        all.push_back(std::move(one));
    }
    return all;
}

json report_to_json(const ReportPage& page) {
    const Summary& summary = *page.summary;
    json reasons = json::array(), events = json::array(), unused = json::array(), spans = json::array();
    for (const auto& [reason, tally] : summary.reasons.sorted()) {
        json one = report_to_json(*tally);
        one["reason"] = line_text(*reason);
        reasons.push_back(std::move(one));
    }
    for (const auto& [event, told] : summary.events.sorted()) {
        json one = report_to_json(told->tally);
        one["event"] = line_text(*event);
        one["cause"] = line_text(told->cause);
        events.push_back(std::move(one));
    }
    for (const records::PolicyRule& rule : page.unused)
        unused.push_back({{"rule", line_text(rule.name)}, {"at", line_text(rule.at)}});
    for (const auto& [begin, span] : summary.timeline.spans())
        spans.push_back({{"begin", begin}, {"allowed", span.allowed}, {"refused", span.refused}});
    return {{"records", summary.records},
            {"malformed", page.malformed},
            {"total", report_to_json(summary.total)},
            {"refused", requests_to_json(summary.refused)},
            {"allowed", requests_to_json(summary.allowed)},
            {"reasons", std::move(reasons)},
            {"users", pairs_to_json(summary.users, "user", "listener")},
            {"rules", pairs_to_json(summary.rules, "rule", "at")},
            {"unused_rules", page.policy.empty() ? json() : std::move(unused)},
            {"events", std::move(events)},
            {"time", {{"seconds", summary.timeline.seconds()}, {"spans", std::move(spans)}}}};
}

}  // namespace

Ending audit_report(const ReportOptions& options) {
    std::optional<PolicyFiles> policy;
    if (!options.policy.empty()) {
        policy = read_policy(options.policy, policy::OwnTests::left_to_caller);
        if (!policy->policy) return report_diagnostics(*policy, options.json);
    }
    const auto names = with_rotated(options.files, options.rotated, "audit report");
    if (!names) return std::unexpected(names.error());
    auto files = records::open_record_files(*names);
    if (!files) return failed(opener::exit_failed, "audit report: " + files.error().message());
    Summary summary;
    ReportPage page{.policy = options.policy, .summary = &summary};
    for (const records::RecordFile& file : *files) page.files.push_back(file.name);
    std::optional<UnusedRules> unused;
    if (policy) unused.emplace(*policy->policy);
    proto::Result<records::ReadTotals> read;
    {
        ProgressLine line("audit report",
                          options.json ? ProgressLine::Beside::json : ProgressLine::Beside::text);
        read = records::read_records(
            std::move(*files),
            [&](const records::Record& record) {
                summary.add(record);
                if (unused && !record.rule.empty()) unused->used(record.rule);
                return records::Reading::go_on;
            },
            [&](const records::Progress& progress) {
                line.tell(progress.share(), fmt::format("{} records", progress.records));
            });
    }
    if (!read) return failed(opener::exit_failed, "audit report: " + read.error().message());
    page.malformed = read->malformed;
    page.first_malformed = read->first_malformed;
    if (unused) page.unused = unused->left();
    if (options.json)
        print_json(report_to_json(page));
    else
        print_raw(to_html(page));
    return opener::exit_done;
}

}  // namespace fdbroker::ctl
