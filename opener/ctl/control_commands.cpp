// SPDX-License-Identifier: MIT
#include "opener/ctl/control_commands.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "opener/control/answers.hpp"
#include "opener/control/text.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/log.hpp"
#include "opener/ctl/metrics_server.hpp"
#include "opener/ctl/opener_connection.hpp"
#include "opener/ctl/terminal.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using opener::ControlCommand;

namespace {

std::unexpected<Failure> unreachable(const ControlQuestion& question, std::string_view why) {
    return failed(opener::exit_unreachable,
                  fmt::format("the opener at {} cannot be reached: {}", question.control, why));
}

std::string line_of(const ControlQuestion& question, bool as_json) {
    std::string line(to_string(question.command));
    if (as_json) line += " --json";
    if (question.grants) line += " --grants";
    for (const std::string& argument : question.arguments) line += " " + argument;
    return line;
}

// Sends the question off.
std::expected<OpenerConnection, Failure> ask(const ControlQuestion& question, bool as_json) {
    const std::string line = line_of(question, as_json);
    if (line.find('\n') != std::string::npos || line.size() > opener::max_control_line)
        return failed(opener::exit_usage, "what the opener is asked must be one line of at most 65536 bytes");
    auto opener = OpenerConnection::connect(question.control);
    if (!opener) return unreachable(question, opener.error().message());
    if (auto asked = opener->ask(line); !asked) return unreachable(question, asked.error().message());
    return std::move(*opener);
}

// The opener's refusals, which are text whatever was asked: nobody may, there are too many who do, or no generation
// is there to answer.
std::optional<Failure> refusal(std::string_view text) {
    constexpr std::string_view start = "error: ";
    if (!text.starts_with(start)) return std::nullopt;
    const bool unserved = text.starts_with(opener::no_generation_serves);
    text.remove_prefix(start.size());
    return Failure{unserved ? opener::exit_unreachable : opener::exit_failed,
                   std::string(text.substr(0, text.find('\n')))};
}

opener::TextStyle style_of_output() {
    if (!takes_colour(STDOUT_FILENO)) return {};
    return {.strong = "\x1b[1m", .good = "\x1b[32m", .bad = "\x1b[31m", .end = "\x1b[0m"};
}

// The second word of a decision is what an eye looks for.
std::string painted_decision(const std::string& line) {
    for (const auto& [word, colour] :
         {std::pair(" refused ", Colour::red), std::pair(" allowed ", Colour::green)}) {
        const std::size_t at = line.find(word);
        if (at == std::string::npos || at > line.find(' ')) continue;
        const std::string_view bare = std::string_view(word).substr(1, 7);
        return printable(line.substr(0, at + 1)) + painted(bare, colour, true) +
               printable(line.substr(at + 8));
    }
    return printable(line);
}

Ending watch(const ControlQuestion& question) {
    auto opener = ask(question, question.json);
    if (!opener) return std::unexpected(opener.error());
    const bool colour = !question.json && takes_colour(STDOUT_FILENO);
    for (;;) {
        auto line = opener->next_line();
        if (!line) return unreachable(question, line.error().message());
        if (!*line) return unreachable(question, "it has ended the watch");
        if (auto refused = refusal(**line)) return std::unexpected(std::move(*refused));
        print_raw((colour ? painted_decision(**line) : printable(**line)) + "\n");
        if (!opener->has_line() && !flush_output()) return opener::exit_failed;
    }
}

// Prometheus's text has no answer in JSON that it is made from.
Ending metrics(const ControlQuestion& question) {
    auto opener = ask(question, false);
    if (!opener) return std::unexpected(opener.error());
    const auto text = opener->rest();
    if (!text) return unreachable(question, text.error().message());
    if (text->empty()) return unreachable(question, "it has ended the connection");
    if (auto refused = refusal(*text)) return std::unexpected(std::move(*refused));
    print(*text);
    return opener::exit_done;
}

}  // namespace

std::expected<json, Failure> answer_of_opener(const ControlQuestion& question) {
    auto opener = ask(question, true);
    if (!opener) return std::unexpected(opener.error());
    const auto text = opener->rest();
    if (!text) return unreachable(question, text.error().message());
    if (auto refused = refusal(*text)) return std::unexpected(std::move(*refused));
    json answer = json::parse(*text, nullptr, false);
    if (!answer.is_object()) return unreachable(question, "it has ended the connection");
    return answer;
}

ExitStatus print_error(const json& answer, bool as_json) {
    const auto status =
        static_cast<ExitStatus>(answer.value("status", static_cast<int>(opener::exit_failed)));
    if (as_json) {
        print_json(answer);
        return status;
    }
    complain(answer["error"].get<std::string>());
    const auto diagnostics = answer.find("diagnostics");
    if (diagnostics != answer.end()) {
        for (const json& one : *diagnostics) fmt::print(stderr, "{}\n", opener::diagnostic_text(one));
    }
    return status;
}

namespace {

// Records that the opener no longer remembers are read from the audit log.
std::expected<json, Failure> from_log(json answer, const ControlQuestion& question) {
    const auto file = answer.find("audit_file");
    if (question.command != ControlCommand::why || file == answer.end()) return answer;
    std::uint64_t sequence = 0;
    const std::string& number = question.arguments.front();
    std::from_chars(number.data(), number.data() + number.size(), sequence);
    auto record = recorded(file->get<std::string>(), sequence);
    if (!record) return std::unexpected(std::move(record.error()));
    if (*record) return std::move(**record);
    return failed(opener::exit_failed,
                  fmt::format("why: record {} is neither in the opener's memory nor in {} and what that was "
                              "rotated to",
                              sequence, file->get<std::string>()));
}

}  // namespace

Ending ask_opener(const ControlQuestion& question) {
    if (question.command == ControlCommand::watch) return watch(question);
    if (!question.listen.empty()) return serve_metrics(question.control, question.listen);
    if (question.command == ControlCommand::metrics && !question.json) return metrics(question);
    auto answer = answer_of_opener(question);
    if (answer) answer = from_log(std::move(*answer), question);
    if (!answer) return std::unexpected(answer.error());
    if (answer->contains("error")) return print_error(*answer, question.json);
    if (question.json) {
        print_json(*answer);
        return opener::exit_done;
    }
    const opener::TextStyle style = style_of_output();
    print_raw(opener::to_text(question.command, *answer, style));
    return opener::exit_done;
}

}  // namespace fdbroker::ctl
