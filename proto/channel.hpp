// SPDX-License-Identifier: MIT
// A connected SOCK_SEQPACKET socket: whole messages and the descriptors that travel with them.
//
// None of these functions raises SIGPIPE, leaks a received descriptor or leaves one without FD_CLOEXEC.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <span>

#include "proto/error.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::proto {

enum class Wait { block, never };  // `never`: EAGAIN instead of waiting

// Sends one message with `descriptors` attached (they stay the caller's).
// system: EAGAIN (the receiver does not read; nothing was sent), EMSGSIZE, ETOOMANYREFS (too many descriptors
// in flight), EINVAL (an empty message, more than max_requests descriptors); disconnected: EPIPE, ECONNRESET.
// All or nothing: SEQPACKET has no partial send.
Result<void> send(BorrowedFd socket, std::span<const std::byte> message,
                  std::span<const BorrowedFd> descriptors, Wait wait);

// The descriptors of one received message. Owns them until they are taken.
class ReceivedDescriptors {
  public:
    ReceivedDescriptors() = default;
    ReceivedDescriptors(const ReceivedDescriptors&) = delete;
    ReceivedDescriptors& operator=(const ReceivedDescriptors&) = delete;
    ~ReceivedDescriptors() { clear(); }

    std::size_t count() const noexcept { return count_; }
    UniqueFd take(std::size_t index) noexcept;  // each index once; index < count()
    // Takes ownership of `numbers`, closing those for which there is no room.
    void adopt(std::span<const int> numbers) noexcept;
    void clear() noexcept;  // closes what was not taken

    // Further descriptors were sent but did not fit our table (FullTable::keep).
    bool cut_short() const noexcept { return cut_short_; }
    void set_cut_short() noexcept { cut_short_ = true; }

  private:
    std::array<int, max_requests + 1> numbers_;  // + 1: 64-bit padding lets two in where one was asked for
    std::size_t count_ = 0;
    bool cut_short_ = false;
};

// How a descriptor that does not fit our table is taken.
// fail: as an error, EMFILE, and everything that came is closed.
// keep: the message and the descriptors before it are handed over, and descriptors.cut_short() says so: they
// are in the order of the replies, so the receiver still knows whose are there.
enum class FullTable { fail, keep };

// Receives one message into `buffer` (max_message_size bytes make every message fit) and its descriptors
// into `descriptors`, replacing what it held. Returns the filled part of `buffer`.
// disconnected: the other end is gone. A zero-length message counts as that too (a peer that sends one has
// broken the protocol, and what it may have attached is closed).
// protocol: the message was truncated; everything that came is closed.
// system: EAGAIN with Wait::never, EMFILE with FullTable::fail, EINTR never, others as recvmsg(2).
Result<std::span<const std::byte>> receive(BorrowedFd socket, std::span<std::byte> buffer,
                                           ReceivedDescriptors& descriptors, Wait wait,
                                           FullTable full_table = FullTable::fail);

// Option of setsockopt(2) at SOL_SOCKET: whether the socket takes descriptors. Headers have the name since 6.16.
#ifdef SO_PASSRIGHTS
inline constexpr int so_passrights = SO_PASSRIGHTS;
#else
inline constexpr int so_passrights = 83;
#endif

// From now on whoever sends descriptors to this socket, or to one that this listener accepts, gets EPERM. Where the kernel
// has no SO_PASSRIGHTS (before 6.16) nothing changes.
void refuse_descriptors(BorrowedFd socket) noexcept;
// Whether this kernel has it.
bool can_refuse_descriptors() noexcept;

// As above for an end that takes no descriptors: a message that brings any is a protocol error, and they
// never enter our table.
Result<std::span<const std::byte>> receive(BorrowedFd socket, std::span<std::byte> buffer, Wait wait);

}  // namespace fdbroker::proto
