// SPDX-License-Identifier: MIT
#include "opener/ctl/cli.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <functional>

#include "opener/base/build_config.hpp"
#include "opener/ctl/control_commands.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/terminal.hpp"
#include "proto/address.hpp"

namespace fdbroker::ctl {

namespace {

// What the chosen command does; set while the arguments are read.
using Action = std::function<ExitStatus()>;
using opener::ControlCommand;

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

void add_explain(CLI::App& group, const std::string& control, Action& action) {
    CLI::App* const command =
        group.add_subcommand("explain", "is a request allowed, by which rule, and what else was looked at");
    const auto options = std::make_shared<ExplainOptions>();
    command->add_option("--policy", options->policy, "the policy (the one that the running opener serves)")
        ->type_name("FILE");
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
    command->add_flag("--on-disk", options->on_disk,
                      "what is on disk decides the status, too (root alone sees it)");
    command->add_option("OP", options->operations, "what is asked for: operations, with commas between them")
        ->required();
    command->fallthrough();
    group.fallthrough();
    command->add_option("PATH", options->path, "an absolute path")->required();
    add_json(*command, options->json);
    command->callback([&action, &control, options] {
        action = [&control, options] {
            options->control = control;
            return policy_explain(*options);
        };
    });
}

// A command that asks the running opener. Returns it for what is its own.
CLI::App& add_question(CLI::App& app, const std::string& control, ControlCommand command,
                       const char* description, const std::shared_ptr<ControlQuestion>& question,
                       Action& action) {
    CLI::App* const added = app.add_subcommand(std::string(to_string(command)), description);
    question->command = command;
    added->fallthrough();
    add_json(*added, question->json);
    added->callback([&action, &control, question] {
        action = [&control, question] {
            question->control = control;
            return ask_opener(*question);
        };
    });
    return *added;
}

void add_questions(CLI::App& app, const std::string& control, Action& action) {
    const auto add = [&](ControlCommand command, const char* description) {
        auto question = std::make_shared<ControlQuestion>();
        CLI::App& added = add_question(app, control, command, description, question, action);
        return std::pair<CLI::App&, std::shared_ptr<ControlQuestion>>(added, question);
    };
    add(ControlCommand::status, "what the opener is, serves and is confined to");
    add(ControlCommand::uptime, "how long it has been running");
    const auto [echo, text] = add(ControlCommand::echo, "have it say something");
    echo.add_option("TEXT", text->arguments, "what it shall say")->required();
    add(ControlCommand::metrics, "its counters, as Prometheus reads them");
    add(ControlCommand::watch, "every decision from now on, as it is made");
    add(ControlCommand::reload, "load the policy again, and wait until it is served");
    add(ControlCommand::shutdown, "finish what is in flight, and stop");
    const auto [connections, which] = add(ControlCommand::connections, "who is connected");
    connections.add_flag("--grants", which->grants, "and what was delivered to them, by which rule");
    const auto [why, number] = add(ControlCommand::why, "what decided a request, and why");
    why.add_option("RECORD", number->arguments, "the number of its record, which the reply bears")
        ->expected(1)
        ->required();
    const auto [workers, wanted] = add(ControlCommand::workers, "the workers that it looks after");
    // One option each: a name may not hold a space, and the two are one or none.
    const auto append = [wanted](const std::string& word) { wanted->arguments.push_back(word); };
    CLI::Option* const pool = workers.add_option_function<std::string>("NAME", append, "of a pool");
    CLI::Option* const how_many =
        workers.add_option_function<std::string>("N", append, "how many workers it shall have");
    pool->needs(how_many);
    how_many->needs(pool);
}

}  // namespace

opener::ExitStatus run(int argc, const char* const* argv) {
    Action action;
    std::string control(proto::default_control_socket);
    CLI::App app("Asks and controls fdbroker's opener, and tells what a policy means.", FDBROKER_OPENERCTL);
    app.add_option("--control", control, "where the opener is controlled")
        ->type_name("ADDRESS")
        ->capture_default_str();
    app.set_version_flag("--version", FDBROKER_VERSION);
    app.require_subcommand(1);
    add_questions(app, control, action);
    CLI::App* const policy = app.add_subcommand("policy", "check, explain and test policies");
    policy->require_subcommand(1);
    add_check(*policy, action);
    add_explain(*policy, control, action);
    add_test(*policy, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& wish) {
        app.exit(wish);
        return opener::exit_done;
    } catch (const CLI::ParseError& error) {
        complain(fmt::format("{} (" FDBROKER_OPENERCTL " --help tells what there is)", error.what()));
        return opener::exit_usage;
    }
    const ExitStatus status = action();
    if (flush_output()) return status;
    complain(fmt::format("standard output: {}", std::strerror(errno)));
    return opener::exit_failed;
}

}  // namespace fdbroker::ctl
