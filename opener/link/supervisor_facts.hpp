// SPDX-License-Identifier: MIT
// What the supervisor knows and a generation's `status` tells: memory that the supervisor writes and every generation
// may only read. Nothing is ever read back from it, and no message is needed to ask.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "opener/config/options.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A place of the pool. Fields change one by one: a reader may see a pid with the start count of the one before.
struct WorkerFacts {
    std::atomic<std::int32_t> pid{0};       // 0: not running, waits to be started again
    std::atomic<std::uint32_t> starts{0};   // 0: there is no such place (any more)
    std::atomic<std::int64_t> started{0};   // the last time, as started_at below
    std::atomic<std::int32_t> last_end{0};  // how the one before ended, as waitpid(2) tells
};

// The use of resources by processes when they were last looked at; all 0: they have not been.
struct UsageFacts {
    std::atomic<std::uint32_t> processes{0};
    std::atomic<std::uint64_t> resident{0};     // bytes
    std::atomic<std::uint64_t> descriptors{0};  // 0: not known
};

// A hash of which a reader sees the whole or, while it is written, the one before.
class HashFact {
  public:
    using Hash = std::array<std::uint8_t, 32>;
    // Only one process may store.
    void store(const Hash& hash) noexcept;
    Hash load() const noexcept;

  private:
    struct Slot {
        std::array<std::atomic<std::uint64_t>, 4> words{};
    };
    std::array<Slot, 2> slots_{};
    std::atomic<std::uint64_t> stored_{0};  // times; the last one is in slots_[stored_ % 2]
};

struct SupervisorFacts {
    std::atomic<std::int64_t> started_at{0};    // std::chrono::steady_clock, nanoseconds
    std::atomic<std::uint32_t> generations{0};  // started, the one that reads this included
    std::atomic<std::uint32_t> crashes{0};      // generations that crashed after they had served
    std::atomic<std::uint32_t> reloads{0};      // that came into force
    std::atomic<std::uint32_t> failed_reloads{0};
    std::atomic<std::int64_t> last_reload{0};  // steady_clock, nanoseconds; 0: there was none
    std::atomic<bool> last_reload_failed{false};
    UsageFacts supervisor_usage{};
    UsageFacts broker_usage{};
    UsageFacts helpers_usage{};                 // with the zygotes that make them
    std::atomic<std::uint32_t> followed{0};     // generations started since a rule's directory became another
    std::atomic<std::uint32_t> draining{0};     // that have handed over, and whose helpers are at work
    std::atomic<std::uint32_t> connections{0};  // that the supervisor holds
    std::atomic<std::uint64_t> rejected_connections{
        0};  // connections, because their users had as many as they may have
    std::atomic<std::uint64_t> unanswered_names{0};  // look-ups that the account database did not answer
    std::atomic<std::uint64_t> waits{0};             // times that connections had to wait for room in all
    HashFact audit_head{};  // the audit chain's (audit_chain.hpp); zeros: none, or not known
    std::atomic<std::uint32_t> workers_wanted{0};
    std::array<WorkerFacts, max_workers> workers{};
};

class FactsPage {
  public:
    static proto::Result<FactsPage> create();
    FactsPage(FactsPage&& other) noexcept : file_(std::move(other.file_)), facts_(other.facts_) {
        other.facts_ = nullptr;
    }
    FactsPage& operator=(FactsPage&&) = delete;
    ~FactsPage();

    SupervisorFacts& facts() noexcept { return *facts_; }
    // In a generation, before it is confined: from now on this process cannot write it, nor gain the right to.
    proto::Result<void> become_reader();

  private:
    FactsPage(proto::UniqueFd file, SupervisorFacts* facts) noexcept
        : file_(std::move(file)), facts_(facts) {}
    proto::UniqueFd file_;
    SupervisorFacts* facts_;
};

}  // namespace fdbroker::opener
