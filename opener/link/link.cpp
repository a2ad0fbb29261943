// SPDX-License-Identifier: MIT
#include "opener/link/link.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <span>

#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::ErrorKind;
using proto::Result;
using proto::UniqueFd;

Result<Link::Pair> Link::make() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        return proto::system_error("socketpair");
    }
    Pair pair{Link(UniqueFd(ends[0])), Link(UniqueFd(ends[1]))};
    // Else a generation that was taken over could hand the supervisor one whose close() waits for a dead server.
    proto::refuse_descriptors(pair.supervisor.descriptor());
    return pair;
}

Result<void> Link::try_send(const LinkMessage& message, BorrowedFd attached) {
    const std::span<const BorrowedFd> descriptors =
        attached ? std::span<const BorrowedFd>(&attached, 1) : std::span<const BorrowedFd>();
    return proto::send(socket_.borrow(), std::as_bytes(std::span(&message, 1)), descriptors,
                       proto::Wait::never);
}

Result<void> Link::send(const LinkMessage& message) {
    for (;;) {
        auto sent = try_send(message);
        if (sent || !would_block(sent.error())) return sent;
        pollfd writable{socket_.number(), POLLOUT, 0};
        if (::poll(&writable, 1, -1) < 0 && errno != EINTR) return proto::system_error("poll");
    }
}

Result<std::optional<Link::Received>> Link::receive() {
    // A byte more than the one size there is, so that a longer message shows.
    std::array<std::byte, sizeof(LinkMessage) + 1> buffer;
    proto::ReceivedDescriptors descriptors;
    auto received =
        proto::receive(socket_.borrow(), buffer, descriptors, proto::Wait::never, proto::FullTable::keep);
    // That the other end has gone with a message unread (ECONNRESET) is told once, before what it said last.
    if (!received && received.error().kind == ErrorKind::disconnected)
        received =
            proto::receive(socket_.borrow(), buffer, descriptors, proto::Wait::never, proto::FullTable::keep);
    if (!received) {
        if (would_block(received.error())) return std::nullopt;
        return std::unexpected(received.error());
    }
    if (received->size() != sizeof(LinkMessage) || descriptors.count() > 1) {
        return proto::protocol_error("link", "a message of the wrong size");
    }
    Received result;
    std::memcpy(&result.message, received->data(), sizeof(LinkMessage));
    if (descriptors.count() == 1) result.attached = descriptors.take(0);
    return result;
}

}  // namespace fdbroker::opener
