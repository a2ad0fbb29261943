// SPDX-License-Identifier: MIT
#include "opener/ctl/shadow_cli.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "opener/policy_source/load_policy.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using opener::ControlCommand;

namespace {

struct ShadowOptions {
    std::string file{};
    bool report = false;
    bool stop = false;
};

Ending shadow(const ShadowOptions& options, const CommandLine& line) {
    if ((options.file.empty() ? 0 : 1) + (options.report ? 1 : 0) + (options.stop ? 1 : 0) != 1)
        return failed(opener::exit_usage, "shadow: write one of FILE, --report and --stop");
    std::string what = options.report ? "--report" : "--stop";
    // The opener works elsewhere.
    if (!options.file.empty()) what = std::filesystem::absolute(options.file).lexically_normal().string();
    if (!options.file.empty() && ::access(what.c_str(), F_OK) != 0)
        return failed(opener::exit_failed, fmt::format("shadow: {}: {}", what, std::strerror(errno)));
    return ask_opener(
        {.control = line.control, .command = ControlCommand::shadow, .arguments = {what}, .json = line.json});
}

// "90s", "10m", "10min", "2h" or "1d".
std::optional<std::chrono::seconds> duration_of(std::string_view text) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    // More than centuries are none.
    if (error != std::errc{} || number < 0 || number > 10'000'000'000) return std::nullopt;
    const std::string_view unit(end, text.data() + text.size());
    if (unit == "s") return std::chrono::seconds(number);
    if (unit == "m" || unit == "min") return std::chrono::seconds(60 * number);
    if (unit == "h") return std::chrono::seconds(3600 * number);
    if (unit == "d") return std::chrono::seconds(86400 * number);
    return std::nullopt;
}

std::expected<json, Failure> asked(const CommandLine& line, ControlCommand command,
                                   std::vector<std::string> arguments) {
    auto answer =
        answer_of_opener({.control = line.control, .command = command, .arguments = std::move(arguments)});
    if (!answer || !answer->contains("error")) return answer;
    return failed(opener::exit_failed, (*answer)["error"].get<std::string>());
}

// The policy that would be loaded must be the candidate.
std::optional<Failure> other_policy(const CommandLine& line, const std::string& tried) {
    const auto status = asked(line, ControlCommand::status, {});
    if (!status) return status.error();
    const auto file = (*status)["policy"]["file"].get<std::string>();
    const auto loaded = opener::load_policy(file);
    if (!loaded)
        return Failure{opener::exit_policy, fmt::format("reload: {}", loaded.error().front().what())};
    if (loaded->digest == tried) return std::nullopt;
    return Failure{opener::exit_failed,
                   fmt::format("reload: {} is not the candidate that decided beside the policy", file)};
}

// nullopt: the candidate may be loaded.
std::optional<Failure> unclean(const CommandLine& line, const std::string& duration) {
    const auto wanted = duration_of(duration);
    if (!wanted)
        return Failure{
            opener::exit_usage,
            fmt::format("--if-shadow-clean: \"{}\" is no duration; write 90s, 10m, 2h or 1d", duration)};
    const auto report = asked(line, ControlCommand::shadow, {"--report"});
    if (!report) return report.error();
    if ((*report)["shadow"].is_null())
        return Failure{opener::exit_failed,
                       "reload: no candidate decides beside the policy (openerctl shadow FILE)"};
    const auto clean = (*report)["clean_for"].get<std::int64_t>();
    if (clean < wanted->count())
        return Failure{opener::exit_failed,
                       fmt::format("reload: the candidate has {} for {} s, and not for {}",
                                   (*report)["last_difference"].is_null() ? "decided beside the policy"
                                                                          : "made no difference",
                                   clean, duration)};
    return other_policy(line, (*report)["policy_sha256"].get<std::string>());
}

}  // namespace

void add_shadow(CLI::App& app, CommandLine& line) {
    CLI::App& command =
        add_command(app, line, "shadow", "have a candidate decide beside the policy, without effect");
    const auto options = std::make_shared<ShadowOptions>();
    command.add_option("FILE", options->file, "the candidate");
    command.add_flag("--report", options->report, "what it would have decided otherwise so far");
    command.add_flag("--stop", options->stop, "have it decide no more");
    command.callback([&line, options] { line.action = [&line, options] { return shadow(*options, line); }; });
}

void add_shadow_condition(CLI::App& reload, CommandLine& line,
                          const std::shared_ptr<ControlQuestion>& question) {
    const auto duration = std::make_shared<std::string>();
    reload
        .add_option(
            "--if-shadow-clean", *duration,
            "only if the candidate of `shadow` is that policy, and has made no difference for so long: 10m")
        ->type_name("DURATION");
    reload.callback([&line, question, duration] {
        line.action = [&line, question, duration]() -> Ending {
            question->control = line.control;
            question->json = line.json;
            if (!duration->empty())
                if (auto obstacle = unclean(line, *duration)) return std::unexpected(std::move(*obstacle));
            return ask_opener(*question);
        };
    });
}

}  // namespace fdbroker::ctl
