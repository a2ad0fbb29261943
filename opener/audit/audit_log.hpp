// SPDX-License-Identifier: MIT
// Where audit records end up: the supervisor's side. It takes lines from the rings of the generations, makes sure that
// they are lines with the numbers that are due, and hands them on.
//
// Numbers are given out so that none is given twice: the generation that serves has all from the next one on. One that
// has handed over and still ends what it had begun has a block of its own, reserved at that moment; its records stand
// after those of its successor that were made before them. What it leaves of the block is told by the record of its
// end, which bears the block's last number.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
    };
    Position position() const { return {.next = next_, .generation = generation_, .unwritten = pending_}; }
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
    bool is_foul(std::uint32_t generation) const noexcept;
    // Milliseconds until drain() should be called again without being asked to; -1: a ring will wake us.
    int patience() const noexcept;
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
        // Of one that has handed over: the number that is due, and the last of its block, which its end bears.
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
    void check(Source& source, std::size_t from);
    void own_line(std::uint32_t generation, std::uint64_t number, std::string_view event,
                  std::string_view cause, const Source& about);

    std::unique_ptr<AuditSink> sink_{};
    std::vector<Source> sources_{};  // oldest first
    std::string pending_{};          // taken and not written yet; whole lines but for the first
    std::string beginning_{};        // of the line that is due
    std::uint64_t next_ = 1;         // that nobody has been given, but for who serves
    std::uint32_t generation_ = 0;   // that serves, or was the last to
    enum class Pace { asleep, awake, failing } pace_ = Pace::asleep;
};

}  // namespace fdbroker::opener
