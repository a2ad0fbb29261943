// SPDX-License-Identifier: MIT
// The audit records on their way from the generation, which makes them, to the supervisor, which writes them.
//
// A ring of bytes in memory that both share (mapped before the fork): one producer, one consumer, no lock. The generation
// never holds the audit file, so taken over it cannot cut or rewrite the log. Records in the ring survive the generation.
// Several generations may live at a time; each has a separate ring, so that none can touch another's records.
//
// A record costs no system call. The consumer looks every drain_interval while records come, and sleeps when none came.
// Only a record that finds it asleep, or the ring half full, wakes it.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class AuditRing {
  public:
    // Some 2,500 records: more than what one drain_interval of single requests brings.
    static constexpr std::size_t capacity = std::size_t{1} << 20;  // bytes, a power of two
    static constexpr std::chrono::milliseconds drain_interval{20};
    // How long append() waits for room before it gives up: a disk may be slow for that long, and what is not
    // on record is not granted.
    static constexpr std::chrono::milliseconds room_timeout{1000};

    static proto::Result<AuditRing> create();
    AuditRing(AuditRing&& other) noexcept;
    AuditRing& operator=(AuditRing&&) = delete;
    ~AuditRing();

    // Both ends need these when descriptors are closed.
    std::array<proto::BorrowedFd, 2> descriptors() const noexcept {
        return {wakeup_.borrow(), room_.borrow()};
    }

    // A process that is forked from now on does not have it.
    void keep_from_children() noexcept;

    // ---- producer ----

    // The number that the next record bears; append() moves on to the one after, so that there is no gap.
    std::uint64_t next_sequence() const noexcept { return shared_->sequence.load(std::memory_order_relaxed); }
    // Puts a whole record in, or `count` of them. False, and nothing written: the consumer cannot write (the disk is
    // full), or made no room within room_timeout, or they are larger than the ring. Blocks only while the ring is full.
    [[nodiscard]] bool append(std::string_view records, std::uint64_t count = 1) noexcept;

    // The last records, oldest first, written out or not: at most `capacity` bytes, of which the first line may have lost
    // its beginning.
    std::string recent() const;

    // ---- consumer ----

    // Readable when the producer wants attention.
    proto::BorrowedFd wakeup() const noexcept { return wakeup_.borrow(); }
    // Appends what is there to `out` and makes room for more. The bytes are the producer's: at most `capacity` of them,
    // whatever it wrote into the memory that both share. Returns how many.
    std::size_t take(std::string& out);
    bool is_half_full() const noexcept { return shared_->head.load() - shared_->tail.load() > capacity / 2; }
    // Whether what was taken can be written. While it cannot, append() fails.
    void announce_failing(bool failing) noexcept;
    // While the producer waits to be told: its next record bears this number.
    void continue_at(std::uint64_t sequence) noexcept { shared_->sequence.store(sequence); }
    // Between the two the consumer need not be woken for each record.
    void announce_awake() noexcept;
    // Tells that from now on the first record must wake the consumer; false: there are records already.
    [[nodiscard]] bool announce_sleep() noexcept;

  private:
    struct Shared {
        alignas(64) std::atomic<std::uint64_t> head{0};  // bytes ever put in
        std::atomic<std::uint64_t> sequence{1};
        alignas(64) std::atomic<std::uint64_t> tail{0};  // bytes ever taken out
        std::atomic<bool> consumer_sleeps{true};
        std::atomic<bool> failed{false};  // the consumer's last write failed
        alignas(64) std::byte data[capacity];
    };

    AuditRing(Shared* shared, proto::UniqueFd wakeup, proto::UniqueFd room) noexcept
        : shared_(shared), wakeup_(std::move(wakeup)), room_(std::move(room)) {}
    void wake() noexcept;
    bool wait_for_room(std::size_t needed) noexcept;

    Shared* shared_;
    proto::UniqueFd wakeup_;  // eventfd, producer → consumer
    proto::UniqueFd room_;    // eventfd, consumer → producer
};

}  // namespace fdbroker::opener
