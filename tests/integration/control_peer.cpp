// SPDX-License-Identifier: MIT
#include "tests/integration/control_peer.hpp"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "proto/address.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

ControlPeer::ControlPeer(const std::filesystem::path& path)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto name = proto::Address::parse(path.string())->socket_name();
    if (::connect(socket_.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
        throw std::system_error(errno, std::generic_category(), "connect " + path.string());
}

void ControlPeer::send(std::string_view text) const {
    while (!text.empty()) {
        const ssize_t sent = ::send(socket_.number(), text.data(), text.size(), MSG_NOSIGNAL);
        if (sent < 0) return;  // hung up on: what it said shows
        text.remove_prefix(static_cast<std::size_t>(sent));
    }
}

void ControlPeer::end() const {
    ::shutdown(socket_.number(), SHUT_WR);
}

std::string ControlPeer::line() {
    for (;;) {
        if (const std::size_t feed = text_.find('\n'); feed != std::string::npos) {
            std::string line = text_.substr(0, feed);
            text_.erase(0, feed + 1);
            return line;
        }
        if (!receive()) return std::exchange(text_, "");
    }
}

std::string ControlPeer::rest() {
    while (receive()) {
    }
    return std::exchange(text_, "");
}

std::string ControlPeer::ask(std::string_view command) {
    send(std::string(command) + "\n");
    return line();
}

void ControlPeer::drop_what_came() {
    while (is_readable_now(socket_.borrow()) && receive()) {
    }
    text_.clear();
}

bool ControlPeer::receive() {
    wait_readable(socket_.borrow());
    std::array<char, 65536> buffer;
    const ssize_t got = ::recv(socket_.number(), buffer.data(), buffer.size(), 0);
    if (got > 0) text_.append(buffer.data(), static_cast<std::size_t>(got));
    return got > 0;
}

}  // namespace fdbroker::test
