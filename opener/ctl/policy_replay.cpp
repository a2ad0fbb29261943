// SPDX-License-Identifier: MIT
#include "opener/ctl/policy_replay.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "opener/ctl/audit_commands.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/progress.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/records/record_files.hpp"
#include "opener/records/replay.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using records::FlipGroup;
using records::FlippedPath;
using records::Replay;
using records::ReplayTotals;

namespace {

constexpr std::size_t shown_paths = 20;  // per group, in text

using Path = std::pair<const std::string*, const FlippedPath*>;

// Those of the most requests first.
std::vector<Path> paths_of(const FlipGroup& group) {
    std::vector<Path> paths;
    for (const auto& [key, flipped] : group.paths) paths.emplace_back(&key.first, &flipped);
    std::ranges::stable_sort(paths, [](const Path& left, const Path& right) {
        return left.second->requests > right.second->requests;
    });
    return paths;
}

const char* name_of(records::Flip flip) {
    return flip == records::Flip::would_be_allowed ? "would be allowed" : "would be refused";
}

std::string plural(std::uint64_t number, const char* word) {
    return fmt::format("{} {}{}", number, word, number == 1 ? "" : "s");
}

// ---- text ----------------------------------------------------------------------------------------------

std::string users_of(const FlippedPath& path) {
    std::string users;
    for (const std::string& user : path.users) users += (users.empty() ? "" : ", ") + user;
    return path.more_users == 0 ? users : users + " and others";
}

void print_group(const FlipGroup& group, bool colour) {
    const Colour paint = group.flip == records::Flip::would_be_allowed ? Colour::green : Colour::red;
    print_raw(painted(name_of(group.flip), paint, colour));
    print(fmt::format(": {}\n  recorded: {}\n  now: {}\n", plural(group.requests, "request"), group.before,
                      group.after));
    const std::vector<Path> paths = paths_of(group);
    for (std::size_t i = 0; i < std::min(paths.size(), shown_paths); ++i) {
        const auto& [path, flipped] = paths[i];
        print_raw(printable(fmt::format("  {:>8}  {} {}  [{}; {}]", flipped->requests, flipped->operations,
                                        *path, users_of(*flipped), flipped->first),
                            proto::LineFeeds::escaped) +
                  "\n");
    }
    if (paths.size() > shown_paths)
        print(fmt::format("            {} more paths\n", paths.size() - shown_paths));
    if (group.other_paths != 0)
        print(fmt::format("            {} of more paths than are kept apart\n",
                          plural(group.other_paths, "record")));
}

void print_untold(const ReplayTotals& totals, const records::ReadTotals& read) {
    if (totals.undecided != 0)
        print(fmt::format("{} ended before a decision: malformed, or cancelled with others\n",
                          plural(totals.undecided, "request")));
    for (std::size_t fact = 0; fact < totals.unknown.size(); ++fact)
        if (totals.unknown[fact] != 0)
            print(fmt::format(
                "{} could not be decided: without the peer's {} the new policy's answer is not known\n",
                plural(totals.unknown[fact], "record"), to_string(static_cast<policy::UnknownFact>(fact))));
    if (totals.without_path != 0)
        print(
            fmt::format("{} could not be decided: the path, a new name or the operations are not on record\n",
                        plural(totals.without_path, "record")));
    if (totals.collapsed != 0)
        print(
            fmt::format("{} stand for several requests each, of which the first one's path alone is known\n",
                        plural(totals.collapsed, "record")));
    if (totals.other_groups != 0)
        print(fmt::format("{} fall under more pairs of rules than are kept apart\n",
                          plural(totals.other_groups, "flip")));
    if (read.malformed != 0)
        print(fmt::format("{} no record, the first in {}\n",
                          read.malformed == 1 ? "1 line is" : fmt::format("{} lines are", read.malformed),
                          read.first_malformed));
}

void print_replay(const Replay& replay, const records::ReadTotals& read) {
    const bool colour = takes_colour(STDOUT_FILENO);
    const ReplayTotals& totals = replay.totals();
    for (const FlipGroup* group : replay.groups()) print_group(*group, colour);
    print_untold(totals, read);
    print(fmt::format(
        "{} of {} would flip ({} read, {} of events)\n",
        totals.flipped_requests == 0 ? std::string("none") : std::to_string(totals.flipped_requests),
        plural(totals.requests, "decision"), plural(totals.records, "record"), totals.events));
}

// ---- JSON ----------------------------------------------------------------------------------------------

json replay_to_json(const FlipGroup& group) {
    json paths = json::array();
    for (const auto& [path, flipped] : paths_of(group)) {
        paths.push_back({{"path", printable(*path, proto::LineFeeds::escaped)},
                         {"operations", flipped->operations},
                         {"records", flipped->records},
                         {"requests", flipped->requests},
                         {"users", flipped->users},
                         {"records_of_other_users", flipped->more_users},
                         {"first", printable(flipped->first)}});
    }
    return {{"flip", group.flip == records::Flip::would_be_allowed ? "allowed" : "refused"},
            {"rule_before", group.rule_before.empty() ? json() : json(group.rule_before)},
            {"rule_after", group.rule_after.empty() ? json() : json(group.rule_after)},
            {"before", group.before},
            {"after", group.after},
            {"records", group.records},
            {"requests", group.requests},
            {"paths", std::move(paths)},
            {"records_of_other_paths", group.other_paths}};
}

json replay_to_json(const Replay& replay, const records::ReadTotals& read) {
    const ReplayTotals& totals = replay.totals();
    json groups = json::array(), unknown = json::object();
    for (const FlipGroup* group : replay.groups()) groups.push_back(replay_to_json(*group));
    for (std::size_t fact = 0; fact < totals.unknown.size(); ++fact)
        unknown[to_string(static_cast<policy::UnknownFact>(fact))] = totals.unknown[fact];
    return {{"records", totals.records},
            {"events", totals.events},
            {"decisions", totals.decisions},
            {"requests", totals.requests},
            {"flips", totals.flips},
            {"flipped_requests", totals.flipped_requests},
            {"collapsed", totals.collapsed},
            {"ended_before_decision", totals.undecided},
            {"unknown", std::move(unknown)},
            {"without_path", totals.without_path},
            {"malformed", read.malformed},
            {"first_malformed", read.malformed == 0 ? json() : json(printable(read.first_malformed))},
            {"groups", std::move(groups)},
            {"flips_of_other_groups", totals.other_groups}};
}

}  // namespace

Ending policy_replay(const ReplayOptions& options) {
    const std::vector<std::string> audits(options.files.begin(), options.files.end() - 1);
    const std::string& candidate = options.files.back();
    if (candidate == "-" && std::ranges::find(audits, "-") != audits.end())
        return failed(opener::exit_usage,
                      "policy replay: only one of records and policy comes from standard input");
    const PolicyFiles policy = read_policy(candidate, policy::OwnTests::must_pass);
    if (!policy.policy) return report_diagnostics(policy, options.json);
    const auto names = with_rotated(audits, options.rotated, "policy replay");
    if (!names) return std::unexpected(names.error());
    auto files = records::open_record_files(*names);
    if (!files) return failed(opener::exit_failed, "policy replay: " + files.error().message());
    Replay replay(*policy.policy);
    proto::Result<records::ReadTotals> read;
    {
        ProgressLine line("policy replay",
                          options.json ? ProgressLine::Beside::json : ProgressLine::Beside::text);
        read = records::read_records(
            std::move(*files),
            [&](const records::Record& record) {
                replay.add(record);
                return records::Reading::go_on;
            },
            [&](const records::Progress& progress) {
                line.tell(progress.share(), fmt::format("{}, {}", plural(progress.records, "record"),
                                                        plural(replay.totals().flips, "flip")));
            },
            records::Detail::decisions);
    }
    if (!read) return failed(opener::exit_failed, "policy replay: " + read.error().message());
    if (options.json)
        print_json(replay_to_json(replay, *read));
    else
        print_replay(replay, *read);
    return replay.totals().flips == 0 ? opener::exit_done : opener::exit_failed;
}

}  // namespace fdbroker::ctl
