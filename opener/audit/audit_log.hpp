// SPDX-License-Identifier: MIT
// Where audit records end up: the supervisor's side. It takes lines from the rings of the generations, makes sure that
// they are lines with the numbers that are due, and hands them on.
//
// Sequence numbers are unique. The serving generation owns every number from the next one on. A draining generation owns a
// reserved block; the successor's earlier records stand before those of the block. The record of the generation's end bears
// the block's last number, which tells the unused ones.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_sink.hpp"
#include "opener/config/options.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class AuditLog {
  public:
    static proto::Result<AuditLog> open(const Options& options);

    // False for --audit none: there are no rings, and nothing here does anything.
    bool is_kept() const noexcept { return sink_ != nullptr; }

    // For the log of an opener that takes the place of this one, once no generation is alive: the number that comes next,
    // which generation was the last, and lines that could not be written yet.
    struct Position {
        std::uint64_t next = 1;
        std::uint32_t generation = 0;
        std::string unwritten{};
        RecordHash head = no_record;  // hash of the last record, written or not
    };
    Position position() const {
        return {.next = next_, .generation = generation_, .unwritten = pending_, .head = chain_.head()};
    }
    // At the beginning.
    void continue_from(const Position& position);

    // From now on this generation serves, and none else. The ring must be there until its end() is told.
    void begin(std::uint32_t generation, AuditRing* ring);
    // The generation that serves does so no more, and makes at most this many more records. Returns how many it may make:
    // no more than max_late_records.
    std::uint64_t hand_over(std::uint64_t records);
    static constexpr std::uint64_t max_late_records = 8192;
    // A generation has ended; what it left is taken. `cause` in words, empty: as it should.
    void end(std::uint32_t generation, std::string_view cause);

    // Writes what the generations have put into their rings. An error is told once, until a write succeeds again.
    proto::Result<void> drain();
    // At the end, with no generation alive: writes what is left, and waits last_patience for room where there is none.
    static constexpr std::chrono::seconds last_patience{2};
    proto::Result<void> finish();
    // The generation has put in what is no record, as only one that was taken over does. That is on record instead.
    bool is_corrupt(std::uint32_t generation) const noexcept;
    // The time after which drain() should be called again without being asked to; nullopt: a ring will wake us.
    std::optional<std::chrono::milliseconds> drain_again_after() const noexcept;
    // The hash of the last record that is written (audit_chain.hpp); no_record: there is none, or it is not known.
    RecordHash written_head() const noexcept;
    // Hashes of the last records of files that were rotated away since the last call.
    std::vector<RecordHash> take_closed() { return sink_ ? sink_->take_closed() : std::vector<RecordHash>(); }
    // Opens the destination anew by its name (after a rotation by somebody else); on an error the old one stays.
    proto::Result<void> reopen() { return sink_ ? sink_->reopen() : proto::Result<void>(); }
    void rotate_by(const AuditRotation& rotation) {
        if (sink_) sink_->rotate_by(rotation);
    }
    // A record of the supervisor's own. Only while no generation serves: the numbers are its then.
    void record(std::string_view event, std::string_view cause);

  private:
    // A generation whose records are taken.
    struct Source {
        std::uint32_t generation;
        AuditRing* ring;
        // The block of a draining generation: the number that is due, and the last one, which the record of the end bears.
        struct Block {
            std::uint64_t next;
            std::uint64_t last;
        };
        std::optional<Block> block{};
        bool corrupt = false;
        std::size_t foul_bytes = 0;
    };

    AuditLog() = default;
    Source* serving() noexcept;
    bool take();
    bool take(Source& source);
    proto::Result<void> write();
    void check(Source& source, std::string_view lines);
    void own_line(std::uint32_t generation, std::uint64_t number, std::string_view event,
                  std::string_view cause, const Source& about);

    std::unique_ptr<AuditSink> sink_{};
    std::vector<Source> sources_{};  // oldest first
    std::string pending_{};          // taken and not written yet; whole lines but for the first
    AuditChain chain_{};             // up to the last line of pending_
    std::string taken_{};            // from a ring
    std::string beginning_{};        // the line that is due begins so
    std::uint64_t next_ = 1;         // that nobody has been given, but for who serves
    std::uint32_t generation_ = 0;   // that serves, or was the last to
    enum class Pace { asleep, awake, failing } pace_ = Pace::asleep;
};

}  // namespace fdbroker::opener
