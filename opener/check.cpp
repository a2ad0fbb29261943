#include "opener/check.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/load_policy.hpp"
#include "opener/say.hpp"
#include "proto/printable.hpp"

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
        say(account.error().message());
        return exit_failed;
    }
    ConfinementPlan plan = plan_confinement(policy.directories(), *account);
    // Nobody is told of changes: the process ends with this one, which does not serve.
    if (const auto looked = start_directory_watch(plan, {}, say); !looked) {
        say(looked.error().message());
        return exit_failed;
    }
    std::vector<DormantDirectory> dormant;
    const auto report = probe_confinement(plan, &dormant);
    if (!report) {
        say("the broker cannot be confined here: " + report.error().message());
        return exit_failed;
    }
    const std::size_t rules = policy.rules().size();
    std::string text = fmt::format("{}: valid, {} {}\n{}", options.policy, rules,
                                   rules == 1 ? "rule" : "rules", describe(plan, &*report));
    for (const DormantDirectory& directory : dormant) {
        text += fmt::format("dormant: {}: {}; its rules grant nothing until it is there\n", directory.path,
                            why_dormant(directory.errno_value));
    }
    fmt::print("{}", proto::printable(text));
    if (options.require_confinement && !report->complete()) {
        say("--require-confinement: " + report->missing());
        return exit_failed;
    }
    return exit_done;
}

}  // namespace fdbroker::opener
