// SPDX-License-Identifier: MIT
#include "opener/control/client.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "opener/control/line.hpp"

namespace fdbroker::opener {

namespace {

// A piece of a stream up to this size goes into the other end's queue whole or not at all: unix_stream_sendmsg() of the
// kernel makes one buffer of it.
constexpr std::size_t max_at_once = 32768;

bool has_ended(int socket) noexcept {
    pollfd state{.fd = socket, .events = POLLRDHUP, .revents = 0};
    return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLRDHUP | POLLHUP)) != 0;
}

}  // namespace

std::optional<std::string_view> ControlClient::next_line(std::span<char> room) {
    if (over_ || gone_ || !out_.empty() || note_.waits != ControlNote::Waits::commands) return std::nullopt;
    // Asked first: what it had sent before its end is then there.
    const bool ended = has_ended(socket_.number());
    const ssize_t got = ::recv(socket_.number(), room.data(), room.size(), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) {
        gone_ = errno != EAGAIN && errno != EINTR;
        return std::nullopt;
    }
    const std::string_view text(room.data(), static_cast<std::size_t>(got));
    const std::size_t line_feed = text.find('\n');
    if (line_feed == std::string_view::npos) {
        over_ = ended;
        if (text.size() > max_control_line) {
            answer("error: a line has at most 65536 bytes\n");
            over_ = true;
            return std::nullopt;
        }
        if (!ended || text.empty()) return std::nullopt;
    }
    const std::string_view line = text.substr(0, line_feed);
    ::recv(socket_.number(), room.data(), std::min(line.size() + 1, text.size()), MSG_DONTWAIT);
    return line;
}

void ControlClient::stream(std::string_view line) {
    tell_losses();
    if (note_.lost != 0 || out_.size() + line.size() > max_backlog) {
        ++note_.lost;
        ++lost_in_all_;
        return;
    }
    out_ += line;
}

// As soon as there is room for what follows as well.
void ControlClient::tell_losses() {
    if (note_.lost == 0 || out_.size() > max_backlog / 2) return;
    out_ += note_.json ? fmt::format("{{\"event\":\"lost\",\"records\":{}}}\n", note_.lost)
                       : fmt::format("lost {} records\n", note_.lost);
    note_.lost = 0;
}

void ControlClient::flush() {
    do {
        if (watches()) tell_losses();
        send_backlog();
    } while (watches() && note_.lost != 0 && out_.empty() && !gone_);
    if (finished()) ::shutdown(socket_.number(), SHUT_RDWR);
}

void ControlClient::send_backlog() {
    std::size_t sent = 0;
    while (!gone_ && sent < out_.size()) {
        std::size_t size = std::min(out_.size() - sent, max_at_once);
        // A record is never torn: what is left of it may be dropped.
        if (const std::size_t end = out_.rfind('\n', sent + size - 1);
            end != std::string::npos && end >= sent)
            size = end + 1 - sent;
        const ssize_t taken = ::send(socket_.number(), out_.data() + sent, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno == EINTR) continue;
            gone_ = errno != EAGAIN;
            break;
        }
        sent += static_cast<std::size_t>(taken);
    }
    out_.erase(0, sent);
}

void ControlClient::hand_over() {
    flush();
    if (out_.empty()) return;
    if (watches()) {
        note_.lost += static_cast<std::uint64_t>(std::ranges::count(out_, '\n'));
        out_.clear();
    } else {
        // Half an answer, and nobody to send the rest.
        gone_ = true;
        ::shutdown(socket_.number(), SHUT_RDWR);
    }
}

}  // namespace fdbroker::opener
