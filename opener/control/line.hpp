// SPDX-License-Identifier: MIT
// One line of the control socket's protocol, openerctl(1): a command, its arguments and how the answer is wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace fdbroker::opener {

enum class ControlCommand : std::uint8_t {
    status,
    uptime,
    echo,
    metrics,
    watch,
    reload,
    shutdown,
    take_over,
    connections,
    why,
    workers,
    explain,
    policy,
    shadow,
    help,
};
std::string_view to_string(ControlCommand command) noexcept;
// The commands, a line for each.
std::string_view control_help() noexcept;

// Without the line feed, in bytes. `explain` needs the most: a path, each byte of it escaped, and groups.
inline constexpr std::size_t max_control_line = 65536;

// The only line that is not answered by a generation: none serves, and what follows says why.
inline constexpr std::string_view no_generation_serves = "error: no generation serves: ";

struct ControlLine {
    ControlCommand command{};
    bool json = false;
    bool grants = false;                   // connections --grants
    std::vector<std::string> arguments{};  // `echo`, `explain`, `shadow`: one, the rest of the line as it is
};

// `line` is without its line feed; a carriage return before it does not count. The error says what is wrong with it.
std::expected<ControlLine, std::string> parse_control_line(std::string_view line);

}  // namespace fdbroker::opener
