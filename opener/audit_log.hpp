// Where audit records end up: the supervisor's side.
#pragma once

#include <optional>
#include <string>

#include "opener/audit_ring.hpp"
#include "opener/options.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class AuditLog {
  public:
    // Opens the destination. A file is created 0600 and only ever appended to.
    static proto::Result<AuditLog> open(const Options& options);

    // Null for --audit none.
    AuditRing* ring() noexcept { return ring_ ? &*ring_ : nullptr; }

    // Writes what generations have put into the ring. An error is told once, until a write succeeds again.
    proto::Result<void> drain();
    // Milliseconds until drain() should be called again without being asked to; -1: the ring will wake us.
    int patience() const noexcept;
    // A file is opened anew by its name (after a rotation); on an error the old one stays.
    proto::Result<void> reopen();

  private:
    AuditLog() = default;
    std::optional<AuditRing> ring_{};
    std::string path_{};  // empty: not a file
    proto::UniqueFd file_{};
    enum class Pace { asleep, awake, failing } pace_ = Pace::asleep;
};

}  // namespace fdbroker::opener
