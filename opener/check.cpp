#include "opener/check.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/load_policy.hpp"
#include "opener/say.hpp"

namespace fdbroker::opener {

ExitStatus check(const Options& options) {
    const auto loaded = load_policy(options.policy);
    if (!loaded) {
        print_diagnostics(loaded.error());
        return exit_policy;
    }
    const policy::Policy& policy = loaded->policy;
    const auto account = choose_account(options.user);
    if (!account) {
        fmt::print(stderr, "opener: {}\n", account.error().message());
        return exit_failed;
    }
    ConfinementPlan plan = plan_confinement(policy.directories(), *account);
    // Nobody is told of changes: the process ends with this one, which does not serve.
    if (const auto looked = start_directory_watch(plan, {}, say); !looked) {
        fmt::print(stderr, "opener: {}\n", looked.error().message());
        return exit_failed;
    }
    std::vector<DormantDirectory> dormant;
    const auto report = probe_confinement(plan, &dormant);
    if (!report) {
        fmt::print(stderr, "opener: the broker cannot be confined here: {}\n", report.error().message());
        return exit_failed;
    }
    const std::size_t rules = policy.rules().size();
    fmt::print("{}: valid, {} {}\n{}", options.policy, rules, rules == 1 ? "rule" : "rules",
               describe(plan, &*report));
    for (const DormantDirectory& directory : dormant) {
        fmt::print("dormant: {}: {}; its rules grant nothing until it is there\n", directory.path,
                   why_dormant(directory.errno_value));
    }
    if (options.require_confinement && !report->complete()) {
        fmt::print(stderr, "opener: --require-confinement: {}\n", report->missing());
        return exit_failed;
    }
    return exit_done;
}

}  // namespace fdbroker::opener
