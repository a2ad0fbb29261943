// The one place where a generation puts on record what it decided.
#pragma once

#include <string>

#include "opener/audit_record.hpp"
#include "opener/audit_ring.hpp"
#include "policy/policy.hpp"

namespace fdbroker::opener {

class AuditTrail {
  public:
    // `ring` null: nothing is recorded (--audit none).
    AuditTrail(AuditRing* ring, std::uint32_t generation) : ring_(ring), generation_(generation) {}

    // `settings` is the policy's `audit:`. Before it is given everything is recorded.
    void apply(const policy::AuditSettings& settings) noexcept { settings_ = settings; }

    // Records a decision; sequence, generation and time of `record` are filled in here. The number of the record, 0:
    // the policy wants none of this kind. False: it could not be recorded, and a grant must not leave.
    struct Recorded {
        std::uint64_t sequence = 0;
        bool may_leave = true;
    };
    Recorded decision(DecisionRecord record);

    // As above for an event; nothing depends on whether it could be recorded.
    void event(EventRecord record);

  private:
    AuditRing* ring_;
    std::uint32_t generation_;
    policy::AuditSettings settings_{};
    std::string line_{};
};

}  // namespace fdbroker::opener
