// SPDX-License-Identifier: MIT
#include "opener/supervisor/check.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "opener/base/log_stderr.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/confinement/name_matching.hpp"
#include "opener/confinement/source_directory.hpp"
#include "opener/policy_source/load_policy.hpp"
#include "policy/matching/denied.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

namespace {

std::vector<std::string> silent_directories(const ConfinementPlan& plan) {
    std::vector<std::string> silent;
    for (const NamedDirectory& directory : plan.named)
        if (directory.silent) silent.push_back(directory.path);
    return silent;
}

// Where deny rules reach, and names may be folded.
std::string describe_names(const policy::Policy& policy, const ConfinementPlan& plan) {
    std::string text;
    const std::vector<std::string> silent = silent_directories(plan);
    const proto::UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (const policy::Directory& directory : policy.directories()) {
        const bool is_silent = std::ranges::any_of(silent, [&](const std::string& path) {
            return directory.path == path || is_below(directory.path, path);
        });
        if (is_silent || !policy::denied_below(policy, directory.path)) continue;
        const auto found = open_source_directory(root.borrow(), directory.path);
        if (!found || !found->fd) continue;
        const NameMatching names = name_matching_of(found->fd.borrow());
        if (names == NameMatching::exact) continue;
        text += fmt::format(
            "names in {}: {}; a deny rule reaches there, and an object is served only by the name that its "
            "directory lists\n",
            directory.path, describe(names));
    }
    return text;
}

}  // namespace

ExitStatus check(const Options& options) {
    const auto loaded = load_policy(options.policy, policy::UnknownAccounts::match_nobody);
    if (!loaded) {
        print_diagnostics(loaded.error());
        return exit_policy;
    }
    const policy::Policy& policy = loaded->policy;
    const auto account = choose_account(options.user);
    if (!account) {
        log_error(account.error().message());
        return exit_failed;
    }
    ConfinementPlan plan = plan_confinement(policy.directories(), *account);
    // Nobody is told of changes: the process ends with this one, which does not serve.
    if (const auto looked = start_directory_watch(plan, {}, log_stderr); !looked) {
        log_error(looked.error().message());
        return exit_failed;
    }
    std::vector<DormantDirectory> dormant;
    const auto report = probe_confinement(plan, &dormant);
    if (!report) {
        log_error("the broker cannot be confined here: " + report.error().message());
        return exit_failed;
    }
    const std::size_t rules = policy.rules().size();
    std::string text = fmt::format("{}: valid, {} {}\n{}", options.policy, rules,
                                   rules == 1 ? "rule" : "rules", describe(plan, &*report));
    text += describe_names(policy, plan);
    for (const DormantDirectory& directory : dormant) {
        text += fmt::format("dormant: {}: {}; its rules grant nothing until {}\n", directory.path,
                            directory.why, directory.errno_value == ELOOP ? "then" : "it is there");
    }
    for (const std::string& line : tolerated_lines(*loaded)) text += "account: " + line + "\n";
    fmt::print("{}", proto::printable(text));
    if (options.require_confinement && !report->complete()) {
        log_error("--require-confinement: " + report->missing());
        return exit_failed;
    }
    return exit_done;
}

}  // namespace fdbroker::opener
