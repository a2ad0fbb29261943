// SPDX-License-Identifier: MIT
#include "opener/config/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "opener/base/build_config.hpp"
#include "opener/config/command_line.hpp"
#include "opener/config/invocation.hpp"

namespace fdbroker::opener {

namespace {

// "NAME=VALUE" or "VALUE". A path may hold a `=`, but a name holds no slash and no `@`.
std::pair<std::string, std::string> split_name(const std::string& text) {
    const std::size_t equals = text.find('=');
    const std::size_t special = text.find_first_of("/@:");
    if (equals == std::string::npos || special < equals) return {"", text};
    return {text.substr(0, equals), text.substr(equals + 1)};
}

ListenOption parse_listen(const std::string& text) {
    auto [name, rest] = split_name(text);
    auto address = proto::Address::parse(rest);
    if (!address) throw CLI::ValidationError("--listen", address.error().message());
    return {name.empty() ? default_listener : name, std::move(*address)};
}

ListenMode parse_mode(const std::string& text) {
    auto [name, rest] = split_name(text);
    unsigned mode = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), mode, 8);
    if (error != std::errc{} || end != rest.data() + rest.size() || mode > 0777) {
        throw CLI::ValidationError("--listen-mode",
                                   fmt::format("\"{}\" is not an octal mode from 0 to 0777", rest));
    }
    return {name, mode};
}

void parse_audit(const std::string& text, Options& options) {
    if (text == "none") {
        options.audit = AuditDestination::none;
    } else if (text == "-") {
        options.audit = AuditDestination::standard_output;
    } else if (text == "journal") {
        options.audit = AuditDestination::journal;
    } else if (text.starts_with('/')) {
        options.audit_file = text;
    } else {
        throw CLI::ValidationError(
            "--audit", fmt::format("\"{}\" is none of an absolute path, -, journal and none", text));
    }
}

void parse_control(const std::string& text, Options& options) {
    options.control.by_default = text.empty();
    if (text == "none") return;
    auto address = proto::Address::parse(text.empty() ? proto::default_control_socket : text);
    if (!address) throw CLI::ValidationError("--control", address.error().message());
    options.control.address = std::move(*address);
}

WorkerOptions parse_workers(const std::string& text) {
    auto [name, number] = split_name(text);
    WorkerOptions workers;
    if (!name.empty()) workers.name = name;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), workers.count);
    if (error != std::errc{} || end != number.data() + number.size() || workers.count > max_workers) {
        throw CLI::ValidationError("--workers",
                                   fmt::format("\"{}\" is not a number from 0 to {}", number, max_workers));
    }
    return workers;
}

void check_workers(const Options& options) {
    if (options.workers->command.empty())
        throw CLI::ValidationError("--workers", "the command is missing: write -- COMMAND at the end");
    // The working directory of the opener is not the workers'.
    if (const std::string& program = options.workers->command.front();
        program.contains('/') && !program.starts_with('/')) {
        throw CLI::ValidationError(
            "--workers",
            fmt::format("\"{}\" is a relative path, and workers run in /: write an absolute one", program));
    }
    if (std::ranges::any_of(options.listen, [&](const ListenOption& listen) {
            return listen.name == options.workers->name;
        })) {
        throw CLI::ValidationError("--workers",
                                   fmt::format("a socket is called \"{}\", too", options.workers->name));
    }
}

void check_names(const Options& options) {
    const auto known = [&](const std::string& name) {
        return name.empty() ||
               std::ranges::any_of(options.listen, [&](const auto& l) { return l.name == name; });
    };
    for (std::size_t i = 0; i < options.listen.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (options.listen[i].name == options.listen[j].name) {
                throw CLI::ValidationError(
                    "--listen",
                    fmt::format("two sockets are called \"{}\"; write NAME=ADDRESS", options.listen[i].name));
            }
        }
    }
    for (const auto& mode : options.listen_modes) {
        if (!known(mode.name))
            throw CLI::ValidationError("--listen-mode", fmt::format("no socket is called \"{}\"", mode.name));
    }
    for (const auto& group : options.listen_groups) {
        if (!known(group.name))
            throw CLI::ValidationError("--listen-group",
                                       fmt::format("no socket is called \"{}\"", group.name));
    }
}

}  // namespace

std::variant<Options, ExitStatus> parse_options(int argc, char** argv) {
    Options options;
    std::vector<std::string> listen, modes, groups;
    std::string audit, control;

    CLI::App app(
        "Checks requested paths against an allowlist and passes open descriptors to sandboxed workers.",
        FDBROKER_OPENER);
    prepare_command_line(app);
    app.add_option("--policy", options.policy, "the allowlist (/etc/fdbroker/policy.yaml)")
        ->type_name("FILE");
    app.add_option(
           "--shadow", options.shadow,
           "a candidate that decides beside the policy, without effect; differences are counted and recorded")
        ->type_name("FILE");
    app.add_option(
           "--listen", listen,
           "where workers connect: a path, @NAME (abstract) or fd:N (inherited); repeatable with names "
           "(/run/fdbroker/opener.sock, or the sockets systemd passes)")
        ->type_name("[NAME=]ADDRESS");
    app.add_option("--listen-mode", modes, "mode of a socket that is a path (0660)")
        ->type_name("[NAME=]MODE");
    app.add_option("--listen-group", groups, "group of a socket that is a path")->type_name("[NAME=]GROUP");
    app.add_option("--control", control,
                   "where " FDBROKER_OPENERCTL
                   " connects: a path, @NAME, fd:N or none (/run/fdbroker/control.sock)")
        ->type_name("ADDRESS");
    app.add_option("--control-group", options.control.group, "whose members may control it, besides root")
        ->type_name("GROUP");
    app.add_option("--audit", audit,
                   "where decisions are recorded: a file, - (standard output), journal or none "
                   "(/var/log/fdbroker/audit.jsonl)")
        ->type_name("DEST");
    app.add_option("--user", options.user, "whom the broker runs as (fdbroker, else an unused uid)")
        ->type_name("NAME");
    auto start_timeout = static_cast<unsigned>(options.start_timeout.count());
    app.add_option("--start-timeout", start_timeout,
                   "how long a broker may take to load the policy and be confined, 1 to 86400 (60)")
        ->type_name("SECONDS")
        ->check(CLI::Range(1U, 86400U));
    unsigned busy_poll = 0;
    const auto* const busy_poll_option =
        app.add_option("--busy-poll", busy_poll,
                       "how long a broker may look for the next request before it sleeps, 0 (never) to 1000, "
                       "whatever more the policy's limits: busy_poll says (what the policy says, else 20)")
            ->type_name("MICROSECONDS")
            ->check(CLI::Range(0U, 1000U));
    std::string workers, worker_user;
    std::vector<std::string> worker_env;
    unsigned worker_watchdog = 0;
    std::vector<std::string> command;
    auto* const workers_option = app.add_option("--workers", workers,
                                                "how many workers to start and look after, and their name "
                                                "(workers); COMMAND is what each runs")
                                     ->type_name("[NAME=]N");
    app.add_option("--worker-user", worker_user,
                   "whom the workers of --workers run as; needed when the opener is root's")
        ->type_name("USER")
        ->needs(workers_option);
    app.add_option(
           "--worker-env", worker_env,
           "a variable of the workers' environment besides HOME, USER, LOGNAME, SHELL and PATH; NAME alone "
           "has the opener's value; repeatable")
        ->type_name("NAME[=VALUE]")
        ->allow_extra_args(false)
        ->needs(workers_option);
    app.add_option("--worker-watchdog", worker_watchdog,
                   "workers are asked on FDBROKER_WATCHDOG_FD whether they live, and killed when they do not "
                   "answer for so long, 1 to 86400 (they are not asked)")
        ->type_name("SECONDS")
        ->check(CLI::Range(1U, 86400U))
        ->needs(workers_option);
    app.add_option("COMMAND", command, "after --: what each worker runs")->needs(workers_option);
    app.add_flag("--check", options.check,
                 "load the policy, say what the broker would be confined to, and exit");
    app.add_flag("--require-confinement", options.require_confinement,
                 "refuse to start where a layer is missing");
    bool take_over = false;  // Invocation tells
    app.add_flag(std::string(take_over_option), take_over,
                 "have the running opener execute its program anew, after an upgrade; connections stay");
    try {
        app.parse(argc, argv);
        for (const auto& text : listen) options.listen.push_back(parse_listen(text));
        for (const auto& text : modes) options.listen_modes.push_back(parse_mode(text));
        for (const auto& text : groups) {
            auto [name, group] = split_name(text);
            options.listen_groups.push_back({name, group});
        }
        parse_control(control, options);
        if (!audit.empty()) parse_audit(audit, options);
        options.start_timeout = std::chrono::seconds(start_timeout);
        if (busy_poll_option->count() != 0) options.busy_poll = std::chrono::microseconds(busy_poll);
        check_names(options);
        if (!workers.empty()) {
            options.workers = parse_workers(workers);
            options.workers->user = worker_user;
            options.workers->environment = std::move(worker_env);
            options.workers->watchdog = std::chrono::seconds(worker_watchdog);
            options.workers->command = std::move(command);
            check_workers(options);
        }
    } catch (const CLI::Success& success) {
        app.exit(success);
        return exit_done;
    } catch (const CLI::ParseError& error) {
        const std::string misspelt = misspelt_word(app, argc, argv);
        fmt::print(stderr, "{0}: {1}\nTry '{0} --help'.\n", FDBROKER_OPENER,
                   misspelt.empty() ? error.what() : misspelt);
        return exit_usage;
    }
    return options;
}

}  // namespace fdbroker::opener
