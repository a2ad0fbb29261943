// SPDX-License-Identifier: MIT
#include "opener/ctl/policy_diff.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "opener/ctl/json.hpp"
#include "opener/ctl/progress.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/running_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using policy::ChangeKind;
using policy::PolicyDiff;

namespace {

// In a word, what the second policy is beside the first.
std::string_view relation(const PolicyDiff& found) {
    if (found.empty()) return "equal";
    const auto all = [&](ChangeKind kind) {
        return found.values.empty() &&
               std::ranges::all_of(found.differences, [&](const auto& one) { return one.kind == kind; });
    };
    if (all(ChangeKind::gained)) return "wider";
    return all(ChangeKind::lost) ? "narrower" : "other";
}

void print_proof(const policy::Proof& proof) {
    const std::string paths =
        proof.all_paths ? "all paths (proved)"
                        : fmt::format("the paths of {} states, then {} examples: the search was given up",
                                      proof.states, proof.sampled);
    std::string peers = "all peers (proved)";
    if (!proof.all_peers)
        peers =
            proof.values_tried != 0
                ? fmt::format("{} peers whose names or ids patterns tell apart (sampled)", proof.values_tried)
                : "the most likely combinations of groups (sampled)";
    print(fmt::format("compared: {}; {}\n", paths, peers));
    for (const std::string& what : proof.not_compared) print(fmt::format("not compared: {}\n", what));
}

void print_diff(const PolicyDiff& found) {
    const bool colour = takes_colour(STDOUT_FILENO);
    for (const policy::Difference& one : found.differences) print_raw(to_text(one, colour));
    for (const policy::ValueDifference& one : found.values)
        print(fmt::format("~ {}: {} -> {}\n", one.key, one.before, one.after));
    print(summary(found) + '\n');
    print_proof(found.proof);
}

void print_diff_as_json(const PolicyDiff& found, const DiffCommandOptions& options) {
    json differences = json::array(), values = json::array();
    for (const policy::Difference& one : found.differences) differences.push_back(to_json(one));
    for (const policy::ValueDifference& one : found.values)
        values.push_back({{"key", one.key}, {"before", one.before}, {"after", one.after}});
    print_json({{"before", options.before},
                {"after", options.after},
                {"relation", relation(found)},
                {"differences", std::move(differences)},
                {"values", std::move(values)},
                {"proof", to_json(found.proof)}});
}

}  // namespace

Ending policy_diff(const DiffCommandOptions& options) {
    if (options.before == "-" && options.after == "-")
        return failed(opener::exit_usage, "policy diff: standard input can be one of the two policies");
    std::optional<policy::Policy> before;
    if (options.before == "running") {
        auto running = running_policy(options.control);
        if (!running) return std::unexpected(running.error());
        before.emplace(std::move(*running));
    } else {
        PolicyFiles files = read_policy(options.before, policy::OwnTests::left_to_caller);
        if (!files.policy) return report_diagnostics(files, options.json);
        before.emplace(std::move(*files.policy));
    }
    const PolicyFiles after = read_policy(options.after, policy::OwnTests::must_pass);
    if (!after.policy) return report_diagnostics(after, options.json);

    ProgressLine progress("policy diff",
                          options.json ? ProgressLine::Beside::json : ProgressLine::Beside::text);
    const auto tell = [&](std::size_t states) {
        progress.tell(-1, fmt::format("{} states compared", states));
    };
    const PolicyDiff found =
        policy::diff(*before, *after.policy, opener::SystemAccounts{}, {.progress = tell});
    if (options.json) {
        print_diff_as_json(found, options);
    } else {
        print_diff(found);
    }
    return found.empty() ? opener::exit_done : opener::exit_failed;
}

}  // namespace fdbroker::ctl
