// SPDX-License-Identifier: MIT
#include "opener/link/link.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::ErrorKind;
using proto::Result;
using proto::UniqueFd;

Result<LinkPair> make_link() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        return proto::system_error("socketpair");
    }
    LinkPair pair{SupervisorLink(UniqueFd(ends[0])), GenerationLink(UniqueFd(ends[1]))};
    // Else a generation that was taken over could hand the supervisor one whose close() waits for a dead server.
    proto::refuse_descriptors(pair.supervisor.descriptor());
    return pair;
}

Result<void> LinkSocket::try_send(std::span<const std::byte> bytes, BorrowedFd attached) {
    const std::span<const BorrowedFd> descriptors =
        attached ? std::span<const BorrowedFd>(&attached, 1) : std::span<const BorrowedFd>();
    return proto::send(socket_.borrow(), bytes, descriptors, proto::Wait::never);
}

Result<void> LinkSocket::send(std::span<const std::byte> bytes) {
    for (;;) {
        auto sent = try_send(bytes, {});
        if (sent || !would_block(sent.error())) return sent;
        pollfd writable{socket_.number(), POLLOUT, 0};
        if (::poll(&writable, 1, -1) < 0 && errno != EINTR) return proto::system_error("poll");
    }
}

Result<std::optional<std::span<const std::byte>>> LinkSocket::receive(std::span<std::byte> buffer,
                                                                      UniqueFd& attached) {
    proto::ReceivedDescriptors descriptors;
    const auto receive_once = [&] {
        return proto::receive(socket_.borrow(), buffer, descriptors, proto::Wait::never,
                              proto::FullTable::keep);
    };
    auto received = receive_once();
    // That the other end has gone with a message unread (ECONNRESET) is told once, before what it said last.
    if (!received && received.error().kind == ErrorKind::disconnected) received = receive_once();
    if (!received) {
        if (would_block(received.error())) return std::nullopt;
        return std::unexpected(received.error());
    }
    if (descriptors.count() > 1) return proto::protocol_error("link", "more than one descriptor");
    if (descriptors.count() == 1) attached = descriptors.take(0);
    return *received;
}

}  // namespace fdbroker::opener
