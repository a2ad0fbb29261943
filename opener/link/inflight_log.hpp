// SPDX-License-Identifier: MIT
// What a generation is working on, in memory that outlives it.
//
// The supervisor maps an in-flight log before it forks a generation; both share it. The generation notes the ids of the
// requests it has taken from a socket until their replies are in the socket again. When it dies between, the
// next generation answers the ids in its in-flight log: no client waits for a reply that nobody is going to write.
// Requests that are still in the sockets are served as if nothing had happened.
//
// A message is received right into the in-flight log. Between the moment when it leaves the socket and the one when its
// ids are noted it is nowhere else. That costs nothing: it has to be received somewhere.
//
// A generation that dies right after sending leaves ids that have been answered: a client may then see a second
// reply to a request, which PROTOCOL.md tells it to drop.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "opener/link/messages.hpp"
#include "opener/quota/helper_limits.hpp"
#include "proto/error.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The requests of one session that are being worked on, or whose replies wait for the peer to read.
struct InflightEntry {
    std::atomic<ConnectionId> connection_id{0};  // 0: free
    std::atomic<std::uint32_t> count{0};
    std::array<std::uint32_t, proto::max_requests> ids{};
};

// Where a generation receives messages.
struct InflightIntake {
    std::atomic<ConnectionId> connection_id{
        0};  // the session being received from; 0: what is there has been noted, or is no message
    alignas(8) std::array<std::byte, proto::max_message_size> message{};
};

// A request that is with a helper, or waits for one.
struct InflightSlot {
    std::atomic<ConnectionId> connection_id{0};  // 0: free
    std::uint32_t id = 0;
};

class InflightLog {
  public:
    // Replies that wait until their peer reads: their number bounds what unread replies may hold in memory and in
    // descriptors. Behind them a message of the same session may wait, and one session is being served.
    static constexpr std::size_t max_parked = 64;
    static constexpr std::size_t entry_count = 2 * max_parked + 1;
    static constexpr std::size_t slot_count = max_helper_requests + max_requests_of_newcomers;

    static proto::Result<InflightLog> create();
    InflightLog(InflightLog&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
    InflightLog& operator=(InflightLog&&) = delete;
    ~InflightLog();

    // The content, and a log with that content in another process. EINVAL: the content has another form.
    std::string bytes() const;
    static proto::Result<InflightLog> restore(std::string_view bytes);

    // A process that is forked from now on does not have it.
    void keep_from_children() noexcept;

    std::span<InflightEntry, entry_count> entries() noexcept { return shared_->entries; }
    std::span<InflightSlot, slot_count> slots() noexcept { return shared_->slots; }
    // An entry that nobody uses; null when all are taken.
    InflightEntry* acquire(ConnectionId connection_id) noexcept;
    const InflightIntake& intake() const noexcept { return shared_->intake; }
    // The buffer for the next message of a session, all zeros: nothing of an earlier message stands there, whoever sent
    // it, nor behind the one that comes.
    std::span<std::byte> begin_intake(ConnectionId connection_id) noexcept;
    // A message of this size has been noted; 0: there was none.
    void end_intake(std::size_t size) noexcept {
        shared_->intake.connection_id.store(0, std::memory_order_release);
        intake_used_ = size;
    }

    // The generation reads no more, and all that it had taken has been answered, but for what helpers still do.
    void clear_gathered() noexcept {
        for (InflightEntry& entry : entries()) release(entry);
        end_intake(shared_->intake.message.size());
    }
    // The generation has ended, and all that it had left has been answered.
    void clear() noexcept {
        clear_gathered();
        for (InflightSlot& slot : slots()) release(slot);
    }
    // Notes a request that is answered apart from others. There are as many slots as such requests can be.
    InflightSlot& note_apart(ConnectionId connection_id, std::uint32_t id) noexcept;
    static void release(InflightSlot& slot) noexcept {
        slot.connection_id.store(0, std::memory_order_release);
    }
    static void note(InflightEntry& entry, std::uint32_t id) noexcept {
        const std::uint32_t count = entry.count.load(std::memory_order_relaxed);
        entry.ids[count] = id;
        entry.count.store(count + 1, std::memory_order_release);
    }
    static void release(InflightEntry& entry) noexcept {
        entry.count.store(0, std::memory_order_relaxed);
        entry.connection_id.store(0, std::memory_order_release);
    }

  private:
    struct Shared {
        std::array<InflightEntry, entry_count> entries{};
        std::array<InflightSlot, slot_count> slots{};
        InflightIntake intake{};
    };

  public:
    static constexpr std::size_t memory_size = sizeof(Shared);

  private:
    explicit InflightLog(Shared* shared) noexcept : shared_(shared) {}
    Shared* shared_;
    std::size_t intake_used_ = 0;  // bytes that may not be zero
    std::size_t next_slot_ = 0;    // where to look first for a free one
};

}  // namespace fdbroker::opener
