// What a generation is working on, in memory that outlives it.
//
// The supervisor maps a journal before it forks a generation; both share it. The generation notes the ids of the
// requests it has taken from a socket until their replies are in the socket again. When it dies between, the
// next generation reads the journal and answers those ids, so that no client waits for a reply that nobody is
// going to write. What was still in the sockets is served as if nothing had happened.
//
// A generation that dies right after sending leaves ids that have been answered: a client may then see a second
// reply to a request, which PROTOCOL.md tells it to drop.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "opener/link.hpp"
#include "proto/error.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The requests of one session that are being worked on, or whose replies wait for the peer to read.
struct JournalEntry {
    std::atomic<Token> token{0};  // 0: free
    std::atomic<std::uint32_t> count{0};
    std::array<std::uint32_t, proto::max_requests> ids{};
};

class Journal {
  public:
    // One entry is the session being served, the others are replies that wait until their peer reads: their number
    // bounds what unread replies may hold in memory and in descriptors.
    static constexpr std::size_t entry_count = 65;

    static proto::Result<Journal> create();
    Journal(Journal&& other) noexcept : entries_(other.entries_) { other.entries_ = nullptr; }
    Journal& operator=(Journal&&) = delete;
    ~Journal();

    std::span<JournalEntry, entry_count> entries() noexcept {
        return std::span<JournalEntry, entry_count>(entries_, entry_count);
    }
    // An entry that nobody uses; null when all are taken.
    JournalEntry* acquire(Token token) noexcept;
    // Of a generation that has ended: all that it left has been answered.
    void clear() noexcept {
        for (JournalEntry& entry : entries()) release(entry);
    }
    static void note(JournalEntry& entry, std::uint32_t id) noexcept {
        const std::uint32_t count = entry.count.load(std::memory_order_relaxed);
        entry.ids[count] = id;
        entry.count.store(count + 1, std::memory_order_release);
    }
    static void release(JournalEntry& entry) noexcept {
        entry.count.store(0, std::memory_order_relaxed);
        entry.token.store(0, std::memory_order_release);
    }

  private:
    explicit Journal(JournalEntry* entries) noexcept : entries_(entries) {}
    JournalEntry* entries_;
};

}  // namespace fdbroker::opener
