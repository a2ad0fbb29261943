// SPDX-License-Identifier: MIT
#include "opener/ctl/audit_cli.hpp"

#include <memory>

#include "opener/ctl/audit_commands.hpp"
#include "opener/ctl/policy_replay.hpp"

namespace fdbroker::ctl {

namespace {

void add_verify(CLI::App& group, CommandLine& line) {
    CLI::App& command =
        add_command(group, line, "verify", "does the chain of hashes over the records hold; if not, where");
    const auto options = std::make_shared<VerifyOptions>();
    command.add_option("FILE", options->files, "the logs, in any order; - is standard input")->required();
    command.add_flag("--rotated", options->rotated, "and what they were rotated to");
    command
        .add_option("--head", options->heads,
                    "a published hash, which must be there; running: that of the running opener")
        ->type_name("HASH")
        ->allow_extra_args(false);
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->control = line.control;
            options->json = line.json;
            return audit_verify(*options);
        };
    });
}

void add_report(CLI::App& group, CommandLine& line) {
    CLI::App& command =
        add_command(group, line, "report", "a page of HTML: who asked for what, what was refused and why");
    const auto options = std::make_shared<ReportOptions>();
    command.add_option("FILE", options->files, "the logs; - is standard input")->required();
    command.add_flag("--rotated", options->rotated, "and what they were rotated to");
    command.add_option("--policy", options->policy, "tell which rules of this policy no record names")
        ->type_name("FILE");
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->json = line.json;
            return audit_report(*options);
        };
    });
}

}  // namespace

void add_replay(CLI::App& group, CommandLine& line) {
    CLI::App& command =
        add_command(group, line, "replay", "which recorded decisions would be others under a policy");
    const auto options = std::make_shared<ReplayOptions>();
    command.add_option("AUDIT", options->files, "the logs; - is standard input; the last word is the policy")
        ->type_name("... NEW")
        ->expected(2, -1)
        ->required();
    command.add_flag("--rotated", options->rotated, "and what they were rotated to");
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->json = line.json;
            return policy_replay(*options);
        };
    });
}

void add_audit_commands(CLI::App& app, CommandLine& line) {
    CLI::App* const audit = app.add_subcommand("audit", "verify the audit log, and report on it");
    audit->require_subcommand(1);
    audit->fallthrough();
    add_report(*audit, line);
    add_verify(*audit, line);
}

}  // namespace fdbroker::ctl
