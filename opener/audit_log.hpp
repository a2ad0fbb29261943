// Where audit records end up: the supervisor's side. It takes lines from the ring, makes sure that they are lines with
// the numbers that are due, and hands them on.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "opener/audit_ring.hpp"
#include "opener/audit_sink.hpp"
#include "opener/options.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class AuditLog {
  public:
    static proto::Result<AuditLog> open(const Options& options);

    // Null for --audit none.
    AuditRing* ring() noexcept { return ring_ ? &*ring_ : nullptr; }

    // From now on the ring's records are this generation's; no earlier one is alive. What that left is taken first.
    void begin(std::uint32_t generation);
    // Writes what the generation has put into the ring. An error is told once, until a write succeeds again.
    proto::Result<void> drain();
    // At the end, with no generation alive: writes what is left, and waits last_patience for room where there is none.
    static constexpr std::chrono::seconds last_patience{2};
    proto::Result<void> finish();
    // The generation has put in what is no record, as only one that was taken over does. That is on record instead.
    bool is_foul() const noexcept { return foul_; }
    // Milliseconds until drain() should be called again without being asked to; -1: the ring will wake us.
    int patience() const noexcept;
    // Opens the destination anew by its name (after a rotation by somebody else); on an error the old one stays.
    proto::Result<void> reopen() { return sink_ ? sink_->reopen() : proto::Result<void>(); }
    void rotate_by(const AuditRotation& rotation) {
        if (sink_) sink_->rotate_by(rotation);
    }
    // A record of the supervisor's own. Only while no generation is active: theirs is the ring then.
    void record(std::string_view event, std::string_view cause);

  private:
    AuditLog() = default;
    bool take();
    proto::Result<void> write();
    void check(std::size_t from);
    void own_line(std::string_view event, std::string_view cause, std::size_t bytes);

    std::optional<AuditRing> ring_{};
    std::unique_ptr<AuditSink> sink_{};
    std::string pending_{};  // taken and not written yet; whole lines but for the first
    std::uint64_t next_ = 1;
    std::uint32_t generation_ = 0;
    bool foul_ = false;
    enum class Pace { asleep, awake, failing } pace_ = Pace::asleep;
};

}  // namespace fdbroker::opener
