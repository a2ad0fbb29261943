// SPDX-License-Identifier: MIT
#include "opener/control/line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace fdbroker::opener {

namespace {

struct CommandEntry {
    std::string_view word;
    ControlCommand command;
    std::size_t least_arguments;
    std::size_t max_arguments;
    bool takes_text;  // the rest of the line is the one argument
};

constexpr std::array commands{
    CommandEntry{"status", ControlCommand::status, 0, 0, false},
    CommandEntry{"uptime", ControlCommand::uptime, 0, 0, false},
    CommandEntry{"echo", ControlCommand::echo, 0, 1, true},
    CommandEntry{"metrics", ControlCommand::metrics, 0, 0, false},
    CommandEntry{"watch", ControlCommand::watch, 0, 0, false},
    CommandEntry{"reload", ControlCommand::reload, 0, 0, false},
    CommandEntry{"shutdown", ControlCommand::shutdown, 0, 0, false},
    CommandEntry{"take-over", ControlCommand::take_over, 0, 0, false},
    CommandEntry{"connections", ControlCommand::connections, 0, 0, false},
    CommandEntry{"why", ControlCommand::why, 1, 1, false},
    CommandEntry{"workers", ControlCommand::workers, 0, 2, false},
    CommandEntry{"explain", ControlCommand::explain, 1, 1, true},
    CommandEntry{"policy", ControlCommand::policy, 0, 0, false},
    CommandEntry{"shadow", ControlCommand::shadow, 1, 1, true},
    CommandEntry{"help", ControlCommand::help, 0, 0, false},
};

// Takes the next word off the line; empty: there is none.
std::string_view next_word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size());
    return word;
}

std::string shown(std::string_view word) {
    std::string text;
    for (const char byte : word.substr(0, 64)) text += byte >= 0x20 && byte < 0x7f ? byte : '?';
    return text;
}

}  // namespace

std::string_view to_string(ControlCommand command) noexcept {
    for (const CommandEntry& entry : commands) {
        if (entry.command == command) return entry.word;
    }
    return "";
}

std::string_view control_help() noexcept {
    return "status                   the opener, its policy, its confinement\n"
           "uptime                   how long it has been running\n"
           "echo TEXT                TEXT\n"
           "metrics                  its counters, for Prometheus\n"
           "watch                    every decision from now on\n"
           "reload                   load the policy again; answered when it serves\n"
           "shutdown                 finish what is in flight and stop\n"
           "take-over                execute the opener's program anew; connections stay (for root)\n"
           "connections [--grants]   who is connected, and what was delivered to them\n"
           "why RECORD               the decision with this record number\n"
           "workers [NAME N]         the workers it looks after; change how many\n"
           "explain JSON             what the policy says to a request\n"
           "policy                   the text of the policy that is served (as JSON also its fragments)\n"
           "shadow FILE              a candidate decides beside the policy, without effect (for root)\n"
           "shadow --report          what the candidate would decide otherwise; --stop ends it\n"
           "help                     this\n"
           "--json after the command: the answer is one line of JSON\n";
}

std::expected<ControlLine, std::string> parse_control_line(std::string_view line) {
    using Wrong = std::unexpected<std::string>;
    if (line.find('\0') != std::string_view::npos) return Wrong("a line holds no NUL byte");
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string_view word = next_word(line);
    const auto* const entry = std::ranges::find(commands, word, &CommandEntry::word);
    if (entry == commands.end())
        return Wrong(fmt::format("\"{}\" is no command; help tells what there is", shown(word)));
    ControlLine parsed{.command = entry->command};
    if (entry->takes_text) {
        if (line.starts_with(' ')) line.remove_prefix(1);
        if (line == "--json" || line.starts_with("--json ")) {
            parsed.json = true;
            line.remove_prefix(std::min<std::size_t>(7, line.size()));
        }
        if (!line.empty()) parsed.arguments.emplace_back(line);
    } else {
        for (std::string_view next = next_word(line); !next.empty(); next = next_word(line)) {
            if (next == "--json") {
                parsed.json = true;
            } else if (next == "--grants" && parsed.command == ControlCommand::connections) {
                parsed.grants = true;
            } else if (next.starts_with("--")) {
                return Wrong(fmt::format("{}: {} is no option of it", word, shown(next)));
            } else {
                parsed.arguments.emplace_back(next);
            }
        }
    }
    const std::size_t count = parsed.arguments.size();
    const bool half_of_workers = parsed.command == ControlCommand::workers && count == 1;
    if (count < entry->least_arguments || count > entry->max_arguments || half_of_workers)
        return Wrong(fmt::format("{}: wrong number of arguments; help tells what it takes", word));
    return parsed;
}

}  // namespace fdbroker::opener
