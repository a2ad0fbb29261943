// SPDX-License-Identifier: MIT
// The replies of one turn of a session, with their descriptors, on their way to the peer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/request/outcome.hpp"
#include "proto/error.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Replies that the peer's socket had no room for. Their in-flight entry, where they have one, stays theirs until they have
// left.
struct ParkedReplies {
    std::vector<std::byte> message{};
    std::vector<DeliverableFile> files{};
    InflightEntry* entry = nullptr;
};

// Gathers replies; one message of them leaves by send(). Its memory is allocated once and serves all sessions of
// a thread, one after the other.
class Delivery {
  public:
    Delivery();

    bool empty() const noexcept { return count() == 0; }
    std::size_t count() const noexcept { return writer_.count(); }
    // Whether `replies` more have room in this message, whatever their reasons.
    bool has_room_for(std::size_t replies) const noexcept;
    // Bytes that the next reply's payload may take when `others` more are to follow.
    std::size_t payload_room(std::size_t others) const noexcept;
    std::size_t descriptor_count() const noexcept { return files_.size(); }

    // At most max_requests between two calls of clear(). A payload that payload_room() has no room for is a bug of the
    // caller's.
    void add(std::uint32_t id, Outcome&& outcome, const Recorded& recorded);
    void add_refusal(std::uint32_t id, std::uint64_t record, int errno_value, proto::Step step,
                     std::string_view reason);

    // Sends what was gathered, without blocking. It stays, for clear(), for park(), or to be sent again.
    proto::Result<void> send(proto::BorrowedFd socket) const;
    ParkedReplies park(InflightEntry* entry);
    void clear() noexcept;

  private:
    std::vector<std::byte> buffer_;
    proto::ReplyWriter writer_;
    std::vector<DeliverableFile> files_;
};

proto::Result<void> send(proto::BorrowedFd socket, const ParkedReplies& replies);

}  // namespace fdbroker::opener
