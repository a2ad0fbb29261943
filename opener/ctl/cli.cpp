// SPDX-License-Identifier: MIT
#include "opener/ctl/cli.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "opener/base/build_config.hpp"
#include "opener/config/command_line.hpp"
#include "opener/ctl/audit_cli.hpp"
#include "opener/ctl/command.hpp"
#include "opener/ctl/control_commands.hpp"
#include "opener/ctl/log.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/policy_edit_cli.hpp"
#include "opener/ctl/shadow_cli.hpp"
#include "opener/ctl/terminal.hpp"
#include "proto/address.hpp"

namespace fdbroker::ctl {

CLI::App& add_command(CLI::App& group, CommandLine& line, const std::string& name, const char* description) {
    CLI::App* const command = group.add_subcommand(name, description);
    command->fallthrough();
    command->add_flag("--json", line.json, "write JSON to standard output");
    return *command;
}

namespace {

using opener::ControlCommand;

const std::map<std::string, CheckFormat> check_formats{{"text", CheckFormat::text},
                                                       {"json", CheckFormat::json},
                                                       {"sarif", CheckFormat::sarif},
                                                       {"github", CheckFormat::github}};

void add_check(CLI::App& group, CommandLine& line) {
    CLI::App& command = add_command(group, line, "check", "are policies valid, and do their own tests pass");
    const auto options = std::make_shared<CheckOptions>();
    command.add_option("FILE", options->files, "the policies; - is standard input")->required();
    command.add_flag("--lint", options->lint, "tell what is legal but unwise, too");
    const auto format = std::make_shared<std::string>();
    command.add_option("--format", *format, "text, json, sarif or github (text)")
        ->check(CLI::IsMember({"text", "json", "sarif", "github"}).description(""))
        ->type_name("FORMAT");
    command.callback([&line, options, format] {
        line.action = [&line, options, format] {
            options->format = line.json ? CheckFormat::json : CheckFormat::text;
            if (!format->empty()) options->format = check_formats.at(*format);
            return policy_check(*options);
        };
    });
}

void add_schema(CLI::App& group, CommandLine& line) {
    CLI::App& command = add_command(group, line, "schema", "the form of a policy, as a JSON Schema");
    const auto fragment = std::make_shared<bool>(false);
    command.add_flag("--fragment", *fragment, "of a fragment, which `include` names");
    command.callback([&line, fragment] {
        line.action = [fragment] {
            return policy_schema(*fragment ? policy::Document::fragment : policy::Document::policy);
        };
    });
}

void add_test(CLI::App& group, CommandLine& line) {
    CLI::App* const command = &add_command(group, line, "test", "run the tests that a policy carries along");
    const auto options = std::make_shared<TestOptions>();
    command->add_option("FILE", options->file, "the policy")->required();
    command->callback([&line, options] {
        line.action = [&line, options] {
            options->json = line.json;
            return policy_test(*options);
        };
    });
}

void add_explain(CLI::App& group, CommandLine& line) {
    CLI::App* const command = &add_command(
        group, line, "explain", "is a request allowed, by which rule, and what else was looked at");
    const auto options = std::make_shared<ExplainOptions>();
    command->add_option("--policy", options->policy, "the policy (the one that the running opener serves)")
        ->type_name("FILE");
    command->add_option("--as", options->user, "who asks: a name or a uid; required")
        ->type_name("USER")
        ->required();
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
    command->add_flag("--why-not", options->why_not,
                      "the smallest edits that would allow it, and what else they open");
    command->add_option("OP", options->operations, "what is asked for: operations, with commas between them")
        ->required();
    command->add_option("PATH", options->path, "an absolute path")->required();
    command->callback([&line, options] {
        line.action = [&line, options] {
            options->control = line.control;
            options->json = line.json;
            return policy_explain(*options);
        };
    });
}

// A command that asks the running opener. Returns it for what is its own.
CLI::App& add_question(CLI::App& app, CommandLine& line, ControlCommand command, const char* description,
                       const std::shared_ptr<ControlQuestion>& question) {
    CLI::App& added = add_command(app, line, std::string(to_string(command)), description);
    question->command = command;
    added.callback([&line, question] {
        line.action = [&line, question] {
            question->control = line.control;
            question->json = line.json;
            return ask_opener(*question);
        };
    });
    return added;
}

void add_questions(CLI::App& app, CommandLine& line) {
    const auto add = [&](ControlCommand command, const char* description) {
        auto question = std::make_shared<ControlQuestion>();
        CLI::App& added = add_question(app, line, command, description, question);
        return std::pair<CLI::App&, std::shared_ptr<ControlQuestion>>(added, question);
    };
    add(ControlCommand::status, "what the opener is, serves and is confined to");
    add(ControlCommand::uptime, "how long it has been running");
    const auto [echo, text] = add(ControlCommand::echo, "have it say something");
    echo.add_option("TEXT", text->arguments, "what it shall say")->required();
    const auto [metrics, counters] = add(ControlCommand::metrics, "its counters, as Prometheus reads them");
    metrics
        .add_option("--listen", counters->listen,
                    "serve them by HTTP at ADDRESS:PORT, or on the inherited socket fd:N")
        ->type_name("ADDRESS");
    add(ControlCommand::watch, "every decision from now on, as it is made");
    const auto [reload, condition] =
        add(ControlCommand::reload, "load the policy again, and wait until it is served");
    add_shadow_condition(reload, line, condition);
    add(ControlCommand::shutdown, "finish what is in flight, and stop");
    const auto [connections, which] = add(ControlCommand::connections, "who is connected");
    connections.add_flag("--grants", which->grants, "and what was delivered to them, by which rule");
    const auto [why, number] = add(ControlCommand::why, "what decided a request, and why");
    why.add_option("RECORD", number->arguments, "the number of its record, which the reply bears")
        ->expected(1)
        ->required();
    add_shadow(app, line);
    const auto [workers, wanted] = add(ControlCommand::workers, "the workers that it looks after");
    // Each name is an option: a name may not hold a space, and the two are one or none.
    const auto append = [wanted](const std::string& word) { wanted->arguments.push_back(word); };
    CLI::Option* const pool = workers.add_option_function<std::string>("NAME", append, "of a pool");
    CLI::Option* const how_many =
        workers.add_option_function<std::string>("N", append, "how many workers it shall have");
    pool->needs(how_many);
    how_many->needs(pool);
}

void add_log(CLI::App& app, CommandLine& line) {
    CLI::App& command = add_command(app, line, "log", "records of the audit log, rotated files included");
    const auto options = std::make_shared<LogOptions>();
    command.add_option("--user", options->user, "of this user: a name or a uid")->type_name("USER");
    command.add_option("--path", options->path, "about paths that this glob matches")->type_name("GLOB");
    command.add_option("--rule", options->rule, "that this rule granted or denied")->type_name("RULE");
    command.add_flag("--refused", options->refused, "what was refused");
    command
        .add_option("--since", options->since,
                    "2026-11-22, 2026-11-22T18:00 (UTC), or how long ago: 90s, 30min, 2h, 7d")
        ->type_name("TIME");
    command.add_option("--file", options->file, "the log (that of the running opener)")->type_name("FILE");
    command.callback([&line, options] {
        line.action = [&line, options] {
            options->control = line.control;
            options->json = line.json;
            return print_log(*options);
        };
    });
}

// Whether the failure of reading the arguments is to be told as JSON, too.
bool wants_json(int argc, const char* const* argv) {
    for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i)
        if (std::string_view(argv[i]) == "--json") return true;
    return false;
}

Ending parse_and_act(CLI::App& app, CommandLine& line, int argc, const char* const* argv) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& wish) {
        app.exit(wish);
        return opener::exit_done;
    } catch (const CLI::ParseError& error) {
        const std::string misspelt = opener::misspelt_word(app, argc, argv);
        return failed(opener::exit_usage,
                      fmt::format("{} (" FDBROKER_OPENERCTL " --help tells what there is)",
                                  misspelt.empty() ? error.what() : misspelt));
    }
    return line.action();
}

ExitStatus tell(const Failure& failure, bool as_json) {
    if (as_json) {
        const nlohmann::json error{{"error", failure.what}, {"status", static_cast<int>(failure.status)}};
        print_raw(error.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n");
    } else {
        complain(failure.what);
    }
    return failure.status;
}

}  // namespace

ExitStatus run(int argc, const char* const* argv) {
    CommandLine line;
    CLI::App app("Asks and controls fdbroker's opener, and tells what a policy means.", FDBROKER_OPENERCTL);
    opener::prepare_command_line(app);
    app.add_option("--control", line.control,
                   fmt::format("where the opener is controlled ({})", proto::default_control_socket))
        ->type_name("ADDRESS");
    app.add_flag("--json", line.json, "write JSON to standard output, errors too");
    app.require_subcommand(1);
    add_questions(app, line);
    add_log(app, line);
    CLI::App* const policy = app.add_subcommand("policy", "check, explain and test policies, and their form");
    policy->require_subcommand(1);
    policy->fallthrough();
    add_check(*policy, line);
    add_diff(*policy, line);
    add_explain(*policy, line);
    add_replay(*policy, line);
    add_schema(*policy, line);
    add_suggest(*policy, line);
    add_test(*policy, line);
    add_audit_commands(app, line);
    const Ending done = parse_and_act(app, line, argc, argv);
    const ExitStatus status = done ? *done : tell(done.error(), wants_json(argc, argv));
    if (flush_output()) return status;
    complain(fmt::format("standard output: {}", std::strerror(errno)));
    return opener::exit_failed;
}

}  // namespace fdbroker::ctl
