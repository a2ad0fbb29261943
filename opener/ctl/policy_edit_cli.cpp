// SPDX-License-Identifier: MIT
#include "opener/ctl/policy_edit_cli.hpp"

#include <memory>

#include "opener/ctl/policy_diff.hpp"
#include "opener/ctl/policy_suggest.hpp"

namespace fdbroker::ctl {

void add_diff(CLI::App& group, CommandLine& line) {
    CLI::App& command = add_command(group, line, "diff", "who may newly do what, and who no longer may");
    const auto options = std::make_shared<DiffCommandOptions>();
    command
        .add_option("OLD", options->before, "a policy; - is standard input, running the one that is served")
        ->required();
    command.add_option("NEW", options->after, "the other policy")->required();
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->control = line.control;
            options->json = line.json;
            return policy_diff(*options);
        };
    });
}

void add_suggest(CLI::App& group, CommandLine& line) {
    CLI::App& command = add_command(group, line, "suggest", "the narrowest rules for what was refused");
    const auto options = std::make_shared<SuggestCommandOptions>();
    command
        .add_option("AUDIT", options->files, "the logs, and files of worker run --learn; - is standard input")
        ->required();
    command.add_option("--policy", options->policy, "the policy that the rules are added to")
        ->type_name("FILE");
    command.add_flag("--rotated", options->rotated, "and what the logs were rotated to");
    command.add_flag("--generalise", options->generalise,
                     "join patterns with **, ${user} and *.ext; told is what that opens");
    command
        .add_option("--include", options->include,
                    "suggest what this pattern matches although it is a secret or no file")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    command.add_flag("--unused", options->unused,
                     "tell which rules of the policy no record used, or not all of");
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->json = line.json;
            return policy_suggest(*options);
        };
    });
}

}  // namespace fdbroker::ctl
