// The one place where a generation puts on record what it decided.
#pragma once

#include <string>
#include <string_view>

#include "opener/audit_record.hpp"
#include "opener/audit_ring.hpp"
#include "policy/policy.hpp"

namespace fdbroker::opener {

class AuditTrail {
  public:
    // `ring` null: nothing is recorded (--audit none). `policy_digest` is the whole of it.
    AuditTrail(AuditRing* ring, std::uint32_t generation, std::string_view policy_digest)
        : ring_(ring), generation_(generation), policy_digest_(policy_digest) {}

    // `settings` is the policy's `audit:`. Before it is given everything is recorded.
    void apply(const policy::AuditSettings& settings) noexcept { settings_ = settings; }

    // Records a decision; the head of `record` is filled in here. The number of the record, 0:
    // the policy wants none of this kind. False: it could not be recorded, and a grant must not leave.
    struct Recorded {
        std::uint64_t sequence = 0;
        bool may_leave = true;
    };
    Recorded decision(DecisionRecord record);

    // The generation begins to serve; `cause` in words.
    void start(std::string_view cause);
    // As decision() for an event; nothing depends on whether it could be recorded.
    void event(EventRecord record);

  private:
    RecordHead head() const;

    AuditRing* ring_;
    std::uint32_t generation_;
    std::string policy_digest_;
    policy::AuditSettings settings_{};
    std::string line_{};
};

}  // namespace fdbroker::opener
