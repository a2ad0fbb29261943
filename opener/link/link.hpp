// SPDX-License-Identifier: MIT
// The link between the supervisor and a generation: a SOCK_SEQPACKET pair on which only the messages of messages.hpp
// travel.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "opener/link/codec.hpp"
#include "opener/link/messages.hpp"
#include "proto/channel.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// An end's socket, non-blocking, which knows bytes.
class LinkSocket {
  public:
    explicit LinkSocket(proto::UniqueFd socket) : socket_(std::move(socket)) {}
    proto::BorrowedFd descriptor() const noexcept { return socket_.borrow(); }

    proto::Result<void> try_send(std::span<const std::byte> bytes, proto::BorrowedFd attached);
    proto::Result<void> send(std::span<const std::byte> bytes);
    // The bytes received, in `buffer`; nullopt: nothing there now.
    proto::Result<std::optional<std::span<const std::byte>>> receive(std::span<std::byte> buffer,
                                                                     proto::UniqueFd& attached);

  private:
    proto::UniqueFd socket_;
};

// An end of the link. It sends messages of `Out` and receives messages of `In`.
template <typename Out, typename In>
class LinkEnd {
  public:
    explicit LinkEnd(proto::UniqueFd socket) : socket_(std::move(socket)) {}
    proto::BorrowedFd descriptor() const noexcept { return socket_.descriptor(); }

    // Never blocks: EAGAIN while the other end's queue is full. `attached` stays the caller's.
    proto::Result<void> try_send(const Out& message, proto::BorrowedFd attached = {}) {
        return socket_.try_send(encode(message).bytes(), attached);
    }
    // Blocks (by poll) while the other end's queue is full. For a generation only: the supervisor always reads, and
    // were it to wait for a generation as well, both might wait for each other.
    proto::Result<void> send(const Out& message) { return socket_.send(encode(message).bytes()); }

    struct Received {
        In message;
        proto::UniqueFd attached{};
    };
    // nullopt: nothing there now. disconnected: the other end has gone. protocol: no message of this direction. A
    // descriptor that does not fit this process's table is missing from `attached`.
    proto::Result<std::optional<Received>> receive() {
        // A byte more than any message has, so that a longer one shows.
        std::array<std::byte, LinkSizes<In>::max + 1> buffer;
        proto::UniqueFd attached;
        const auto bytes = socket_.receive(buffer, attached);
        if (!bytes) return std::unexpected(bytes.error());
        if (!*bytes) return std::nullopt;
        const auto message = decode<In>(**bytes);
        if (!message) return proto::protocol_error("link", "no message of this direction");
        return Received{*message, std::move(attached)};
    }

  private:
    LinkSocket socket_;
};

using SupervisorLink = LinkEnd<ToGeneration, ToSupervisor>;
using GenerationLink = LinkEnd<ToSupervisor, ToGeneration>;

struct LinkPair {
    SupervisorLink supervisor;
    GenerationLink generation;
};
proto::Result<LinkPair> make_link();

}  // namespace fdbroker::opener
