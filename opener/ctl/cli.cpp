#include "opener/ctl/cli.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <functional>

#include "opener/config.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/terminal.hpp"

namespace fdbroker::ctl {

namespace {

// What the chosen command does; set while the arguments are read.
using Action = std::function<ExitStatus()>;

void add_json(CLI::App& command, bool& json) {
    command.add_flag("--json", json, "write JSON to standard output");
}

void add_check(CLI::App& group, Action& action) {
    CLI::App* const command = group.add_subcommand("check", "is a policy valid, and do its own tests pass");
    const auto options = std::make_shared<CheckOptions>();
    command->add_option("FILE", options->file, "the policy")->required();
    command->add_flag("--lint", options->lint, "tell what is legal but unwise, too");
    add_json(*command, options->json);
    command->callback([&action, options] { action = [options] { return policy_check(*options); }; });
}

void add_test(CLI::App& group, Action& action) {
    CLI::App* const command = group.add_subcommand("test", "run the tests that a policy carries along");
    const auto options = std::make_shared<TestOptions>();
    command->add_option("FILE", options->file, "the policy")->required();
    add_json(*command, options->json);
    command->callback([&action, options] { action = [options] { return policy_test(*options); }; });
}

void add_explain(CLI::App& group, Action& action) {
    CLI::App* const command =
        group.add_subcommand("explain", "is a request allowed, by which rule, and what else was looked at");
    const auto options = std::make_shared<ExplainOptions>();
    CLI::Option* const file =
        command->add_option("--policy", options->policy, "the policy")->type_name("FILE");
    command->add_option("--as", options->user, "who asks: a name or a uid")->type_name("USER")->required();
    CLI::Option* const groups =
        command
            ->add_option_function<std::string>(
                "--groups", [options](const std::string& list) { options->groups = list; },
                "names or gids of the peer's supplementary groups, instead of the account's")
            ->type_name("GROUP,...");
    groups->take_last();
    command->add_option("--on-socket", options->socket, "the name of the listener that the peer came to")
        ->type_name("NAME");
    command->add_option("OP", options->operations, "what is asked for: operations, with commas between them")
        ->required();
    command->add_option("PATH", options->path, "an absolute path")->required();
    add_json(*command, options->json);
    command->callback([&action, options, file] {
        if (file->empty())
            throw CLI::ValidationError(
                "--policy", "a policy file is needed: this version cannot ask an opener for the running one");
        action = [options] { return policy_explain(*options); };
    });
}

}  // namespace

opener::ExitStatus run(int argc, const char* const* argv) {
    Action action;
    CLI::App app("Asks what a policy of fdbroker's opener means.", "openerctl");
    app.set_version_flag("--version", FDBROKER_VERSION);
    app.require_subcommand(1);
    CLI::App* const policy = app.add_subcommand("policy", "check, explain and test policies");
    policy->require_subcommand(1);
    add_check(*policy, action);
    add_explain(*policy, action);
    add_test(*policy, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& wish) {
        app.exit(wish);
        return opener::exit_done;
    } catch (const CLI::ParseError& error) {
        complain(fmt::format("{} (openerctl --help tells what there is)", error.what()));
        return opener::exit_usage;
    }
    const ExitStatus status = action();
    if (flush_output()) return status;
    complain(fmt::format("standard output: {}", std::strerror(errno)));
    return opener::exit_failed;
}

}  // namespace fdbroker::ctl
