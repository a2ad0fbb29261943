// SPDX-License-Identifier: MIT
#include "worker/cli.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstring>
#include <expected>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/address.hpp"
#include "worker/cat.hpp"
#include "worker/client/c_api.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/internal.hpp"
#include "worker/commands.hpp"
#include "worker/program_report.hpp"
#include "worker/run/run.hpp"
#include "worker/sandbox/pid_namespace.hpp"
#include "worker/sandbox_report.hpp"

namespace fdbroker::worker {
namespace {

struct Disconnect {
    void operator()(fdbroker_handle* broker) const { fdbroker_disconnect(broker); }
};
using Broker = std::unique_ptr<fdbroker_handle, Disconnect>;

struct Options {
    std::string socket{};  // empty: the default
    bool any_owner = false;
    std::string sandbox = "require";
    std::vector<std::string> paths{};
    std::function<ExitStatus(fdbroker_handle*)> command{};  // empty: sandbox-report
    bool no_follow = false;
    bool null = false;
    bool only_new = false;
    bool json = false;
    std::string program{};  // the program of sandbox-report, and the arguments
    std::vector<std::string> arguments{};
    std::optional<RunOptions> run{};
};

// `worker run`: everything from the first word on that is no option of it is the program's.
void add_run(CLI::App& app, Options& options) {
    struct Given {
        std::vector<std::string> runtime{};
        std::vector<std::string> environment{};
        bool scratch = false;
        bool network = false;
        RunOptions run{};
    };
    auto given = std::make_shared<Given>();
    CLI::App* run = app.add_subcommand("run", "Run an unmodified program, its file calls brokered");
    run->add_option("PROGRAM", given->run.command, "The program and its arguments")->required();
    run->add_option(
           "--runtime", given->runtime,
           "A file or directory that the program sees as the user does, read-only, besides /usr and the "
           "loader's; `none`: not those either; repeatable")
        ->type_name("PATH")
        ->allow_extra_args(false);
    run->add_flag("--scratch", given->scratch, "A private /scratch in memory, as HOME and TMPDIR");
    run->add_flag("--network", given->network, "Sockets of the internet families");
    run->add_option(
           "--env", given->environment,
           "A variable of the program's environment; NAME alone has this process's value; repeatable")
        ->type_name("NAME[=VALUE]")
        ->allow_extra_args(false);
    run->add_flag("--trace", given->run.trace, "Print each answer of the opener");
    run->add_flag("--explain", given->run.explain,
                  "At the end: what was refused, and rules that would allow it");
    run->add_option("--learn", given->run.learn, "Append what is refused as audit records")
        ->type_name("FILE");
    run->callback([&options, given] {
        if (std::ranges::find(given->runtime, "none") == given->runtime.end())
            given->run.runtime = default_runtime();
        for (const std::string& path : given->runtime) {
            if (path == "none") continue;
            if (!path.starts_with('/'))
                throw CLI::ValidationError("--runtime", path + " is no absolute path");
            given->run.runtime.push_back(path);
        }
        given->run.scratch = given->scratch ? Scratch::own : Scratch::none;
        given->run.network = given->network ? Network::unrestricted : Network::none;
        given->run.environment = program_environment(given->environment, given->run.scratch);
        options.run = given->run;
    });
}

// Adds the commands; whichever is given sets options.command.
void add_commands(CLI::App& app, Options& options) {
    const auto add = [&](const char* name, const char* help) {
        CLI::App* command = app.add_subcommand(name, help);
        command->add_option("PATH", options.paths, "Absolute paths")->required();
        return command;
    };
    add("cat", "Print files")->callback([&options] {
        options.command = [&options](auto* broker) { return cat(broker, options.paths); };
    });
    CLI::App* stat_app = add("stat", "Tell what files are");
    stat_app->add_flag("--no-follow", options.no_follow, "Of symbolic links themselves");
    stat_app->callback([&options] {
        options.command = [&options](auto* broker) {
            return stat(broker, options.paths, options.no_follow ? Links::tell : Links::follow);
        };
    });
    CLI::App* list_app = add("list", "Print the names in directories");
    list_app->add_flag("--null", options.null, "End each name with a NUL instead of a newline");
    list_app->callback([&options] {
        options.command = [&options](auto* broker) {
            return list(broker, options.paths, options.null ? LineEnd::nul : LineEnd::newline);
        };
    });
    CLI::App* put_app = add("put", "Replace a file by standard input, whole or not at all");
    put_app->get_option("PATH")->expected(1);
    put_app->add_flag("--new", options.only_new, "Fail where there is a file already");
    put_app->callback([&options] {
        options.command = [&options](auto* broker) {
            return put(broker, options.paths.front(), 0666,
                       options.only_new ? Existing::keep : Existing::replace);
        };
    });
    CLI::App* report = app.add_subcommand("sandbox-report", "What this kernel enforces, and the proof");
    report->add_flag("--json", options.json, "As JSON");
    auto* program = report->add_option("--program", options.program,
                                       "Run a program, and tell which of its calls the sandbox would refuse");
    program->type_name("PROGRAM")->allow_extra_args(false);
    report
        ->add_option("ARGUMENTS", options.arguments,
                     "Of the program; `--` before those that begin with a dash")
        ->needs(program);
    add_run(app, options);
}

// The first of the words from `from` on that is neither an option of the command nor the value of one.
std::size_t first_word(const CLI::App& command, const std::vector<std::string>& words, std::size_t from) {
    for (std::size_t at = from; at < words.size(); ++at) {
        if (words[at] == "--" || !words[at].starts_with('-')) return at;
        const CLI::Option* option = command.get_option_no_throw(words[at]);
        if (option != nullptr && option->get_items_expected_max() > 0) ++at;
    }
    return words.size();
}

// Arguments behind the program's name belong to the program, whatever they look like: puts "--" before it if none is given.
std::vector<std::string> with_program_separated(const CLI::App& app, std::vector<std::string> words) {
    const std::size_t command = first_word(app, words, 0);
    if (command >= words.size() || words[command] != "run") return words;
    const std::size_t program = first_word(*app.get_subcommand("run"), words, command + 1);
    if (program < words.size() && words[program] != "--")
        words.insert(words.begin() + static_cast<std::ptrdiff_t>(program), "--");
    return words;
}

// Empty: the options are filled; else how to end.
std::optional<ExitStatus> parse(int argc, const char* const* argv, Options& options) {
    CLI::App app("Opens files through fdbroker's opener, itself shut off from the filesystem",
                 FDBROKER_WORKER);
    app.set_version_flag("--version", FDBROKER_WORKER " " FDBROKER_VERSION);
    // The commands take the formatter over: help shows no C++ type.
    app.get_formatter()->label("TEXT", "");
    app.get_formatter()->label("REQUIRED", "");
    app.add_option("--socket", options.socket,
                   "Where the opener listens: a path, @NAME, or fd:N for an inherited socket. Default: "
                   "FDBROKER_SOCKET, "
                   "else the descriptor FDBROKER_FD, else " +
                       std::string(proto::default_socket))
        ->type_name("ADDRESS");
    app.add_flag("--any-owner", options.any_owner, "Take a listener that is not root's");
    app.add_option("--sandbox", options.sandbox,
                   "What to do where this kernel lacks a layer of the sandbox: `require` all of them, or go "
                   "on with a "
                   "`best-effort`. Default: require")
        ->check(CLI::IsMember({"require", "best-effort"}).description(""))
        ->type_name("MODE");
    app.require_subcommand(1);
    add_commands(app, options);
    try {
        auto words = with_program_separated(app, {argv + 1, argv + argc});
        std::ranges::reverse(words);  // as CLI11 takes them
        app.parse(std::move(words));
    } catch (const CLI::Success& wish) {
        app.exit(wish);
        return ExitStatus::done;
    } catch (const CLI::ParseError& error) {
        complain(std::string(error.what()) + " (" FDBROKER_WORKER " --help tells what there is)");
        return ExitStatus::usage;
    }
    return std::nullopt;
}

// So that nothing opened here becomes one of the standard descriptors by accident. Whoever uses one that was closed
// gets EBADF, as before.
void fill_standard_descriptors() {
    for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(number, F_GETFD) != -1) continue;
        proto::UniqueFd filler(::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY));
        static_cast<void>(filler.release());
    }
}

// user_namespaces(7): the initial one maps every uid to itself; another may map none.
bool in_user_namespace() {
    std::ifstream map("/proc/self/uid_map");
    std::uint64_t inside = 0, outside = 0, count = 0;
    return !(map >> inside >> outside >> count) || inside != 0 || outside != 0 || count != UINT32_MAX;
}

std::string why_unreachable(int error) {
    switch (error) {
        case ENOENT:
        case ECONNREFUSED:
            return fmt::format("no opener listens there: {}", std::strerror(error));
        case EPERM:
            return in_user_namespace() ? "the listener is not root's, or root shows as the overflow uid, as "
                                         "everyone does who has no "
                                         "uid in this user namespace; --any-owner takes it all the same"
                                       : "the listener is not root's; --any-owner takes it all the same";
        case EPROTO:
        case ENOTSOCK:
        case EPROTOTYPE:
            return fmt::format("that is no opener: {}", std::strerror(error));
        default:
            return std::strerror(error);
    }
}

std::expected<Broker, ExitStatus> connect(const Options& options) {
    fdbroker_handle* broker = nullptr;
    const char* given = options.socket.empty() ? nullptr : options.socket.c_str();
    const int error = fdbroker_connect_flags(&broker, given, options.any_owner ? FDBROKER_ANY_OWNER : 0);
    if (error == 0) return Broker(broker);
    complain(fmt::format("{}: {}", address_text(given), why_unreachable(-error)));
    const bool misspelt = error == -EINVAL || error == -ENAMETOOLONG;
    return std::unexpected(misspelt ? ExitStatus::usage : ExitStatus::unreachable);
}

bool enter_sandbox(const Options& options) {
    const bool best_effort = options.sandbox == "best-effort";
    const auto report =
        confine_with_report(FDBROKER_CONFINE_DESCRIPTORS | FDBROKER_CONFINE_NAMESPACES |
                            FDBROKER_CONFINE_LIMITS | (best_effort ? FDBROKER_CONFINE_BEST_EFFORT : 0));
    if (!report) {
        const bool missing = report.error().errno_value == ENOSYS || report.error().errno_value == EOPNOTSUPP;
        complain(fmt::format("sandbox: {}{}", report.error().message(),
                             missing ? "; --sandbox=best-effort goes on without it" : ""));
        return false;
    }
    for (const LayerReport& layer : *report)
        if (layer.state == LayerState::unavailable && layer.layer != Layer::namespaces)
            complain(fmt::format("sandbox: going on without {}", layer.detail));
    return true;
}

}  // namespace

ExitStatus run(int argc, const char* const* argv) {
    Options options;
    if (const auto ending = parse(argc, argv, options)) return *ending;
    if (!options.command && !options.run) {
        const auto format = options.json ? ReportFormat::json : ReportFormat::text;
        if (options.program.empty()) return sandbox_report(format);
        options.arguments.insert(options.arguments.begin(), options.program);
        return program_report(options.arguments, format);
    }
    if (::getuid() == 0 || ::geteuid() == 0) {
        complain(
            "it does not run as root; as another user: "
            "setpriv --reuid=USER --regid=GROUP --clear-groups " FDBROKER_WORKER " cat PATH...");
        return ExitStatus::usage;
    }
    fill_standard_descriptors();
    // A reader of our output that has gone shows as EPIPE.
    std::signal(SIGPIPE, SIG_IGN);
    // Before the namespace, in which nobody knows that the listener is root's.
    const auto broker = connect(options);
    if (!broker) return broker.error();
    // The program's status, which may have any value.
    if (options.run) return static_cast<ExitStatus>(run_program(*options.run, (*broker)->connection));
    // Whoever may not have one works without, as with the other namespaces.
    static_cast<void>(go_on_in_pid_namespace());
    if (!enter_sandbox(options)) return ExitStatus::failed;
    return options.command(broker->get());
}

}  // namespace fdbroker::worker
