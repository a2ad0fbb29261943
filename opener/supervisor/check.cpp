// SPDX-License-Identifier: MIT
#include "opener/supervisor/check.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "opener/base/log_stderr.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/policy_source/load_policy.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

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
