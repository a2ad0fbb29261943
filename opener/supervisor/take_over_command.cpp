// SPDX-License-Identifier: MIT
#include "opener/supervisor/take_over_command.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "opener/base/log_stderr.hpp"
#include "opener/control/line.hpp"
#include "opener/control/text.hpp"
#include "proto/printable.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// The question is one line, the answer all that comes until the end.
Result<std::string> ask(const proto::Address& address, const std::string& question) {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return proto::system_error("socket");
    const auto name = address.socket_name();
    if (::connect(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
        return proto::system_error("connect");
    // An opener that lets nobody in may say so and hang up before it is asked: the answer tells.
    static_cast<void>(::send(socket.number(), question.data(), question.size(), MSG_NOSIGNAL));
    ::shutdown(socket.number(), SHUT_WR);
    std::string answer;
    std::array<char, 4096> block;
    for (;;) {
        const ssize_t size = ::recv(socket.number(), block.data(), block.size(), 0);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return proto::system_error("recv");
        if (size == 0) return answer;
        answer.append(block.data(), static_cast<std::size_t>(size));
    }
}

ExitStatus unreachable(const proto::Address& address, std::string_view why) {
    log_stderr(fmt::format("--take-over: the opener at {} cannot be reached: {}", address.text(), why));
    return exit_unreachable;
}

}  // namespace

ExitStatus have_taken_over(const ControlOptions& control) {
    if (!control.address || std::holds_alternative<proto::DescriptorAddress>(control.address->value())) {
        log_stderr("--take-over: needs the running opener's control socket (--control ADDRESS)");
        return exit_usage;
    }
    const std::string question = std::string(to_string(ControlCommand::take_over)) + " --json\n";
    const auto text = ask(*control.address, question);
    if (!text) return unreachable(*control.address, text.error().message());
    constexpr std::string_view refusal = "error: ";
    if (text->starts_with(refusal)) {
        log_stderr("--take-over: " + text->substr(refusal.size(), text->find('\n') - refusal.size()));
        return exit_failed;
    }
    const auto answer = nlohmann::json::parse(*text, nullptr, false);
    if (!answer.is_object()) return unreachable(*control.address, "it has ended the connection");
    if (!answer.contains("error")) {
        fmt::print("{}", proto::printable(to_text(ControlCommand::take_over, answer)));
        return exit_done;
    }
    log_stderr("--take-over: " + answer["error"].get<std::string>());
    if (answer.contains("diagnostics"))
        for (const auto& one : answer["diagnostics"]) log_stderr_plainly(diagnostic_text(one));
    return static_cast<ExitStatus>(answer.value("status", static_cast<int>(exit_failed)));
}

}  // namespace fdbroker::opener
