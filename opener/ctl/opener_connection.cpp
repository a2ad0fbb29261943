// SPDX-License-Identifier: MIT
#include "opener/ctl/opener_connection.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <utility>

#include "proto/address.hpp"

namespace fdbroker::ctl {

using proto::Result;
using proto::UniqueFd;

Result<OpenerConnection> OpenerConnection::connect(const std::string& text) {
    const auto address = proto::Address::parse(text);
    if (!address) return std::unexpected(address.error());
    if (const auto* inherited = std::get_if<proto::DescriptorAddress>(&address->value()))
        return OpenerConnection(UniqueFd(inherited->number));
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return proto::system_error("socket");
    const auto name = address->socket_name();
    if (::connect(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
        return proto::system_error("connect", text);
    return OpenerConnection(std::move(socket));
}

void OpenerConnection::wait_at_most(std::chrono::seconds time) {
    const timeval most{.tv_sec = time.count(), .tv_usec = 0};
    for (const int direction : {SO_RCVTIMEO, SO_SNDTIMEO})
        ::setsockopt(socket_.number(), SOL_SOCKET, direction, &most, sizeof most);
}

Result<void> OpenerConnection::ask(std::string_view line) {
    const std::string text = std::string(line) + '\n';
    for (std::size_t sent = 0; sent < text.size();) {
        const ssize_t more = ::send(socket_.number(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        // An opener that lets nobody in may say so and hang up before it is asked: the answer tells.
        if (more < 0 && errno == EPIPE) return {};
        if (more < 0 && errno != EINTR) return proto::system_error("send");
        sent += static_cast<std::size_t>(std::max<ssize_t>(more, 0));
    }
    ::shutdown(socket_.number(), SHUT_WR);
    return {};
}

Result<bool> OpenerConnection::receive_more() {
    received_.erase(0, std::exchange(used_, 0));
    std::array<char, 65536> buffer;
    for (;;) {
        const ssize_t got = ::recv(socket_.number(), buffer.data(), buffer.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return proto::system_error("recv");
        received_.append(buffer.data(), static_cast<std::size_t>(got));
        return got > 0;
    }
}

Result<std::optional<std::string>> OpenerConnection::next_line() {
    for (;;) {
        const std::size_t end = received_.find('\n', used_);
        if (end != std::string::npos) {
            std::string line = received_.substr(used_, end - used_);
            used_ = end + 1;
            return line;
        }
        const auto more = receive_more();
        if (!more) return std::unexpected(more.error());
        if (!*more) return std::nullopt;
    }
}

Result<std::string> OpenerConnection::rest() {
    for (;;) {
        const auto more = receive_more();
        if (!more) return std::unexpected(more.error());
        if (!*more) return std::move(received_);
    }
}

}  // namespace fdbroker::ctl
