// SPDX-License-Identifier: MIT
// The one place where a generation puts on record what it decided.
//
// What a peer can be refused without end, and that it came and went, is paid for out of its user's share (user_share.hpp):
// whoever fills the log is slowed, and nobody else.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_ring.hpp"
#include "opener/audit/session_audit.hpp"
#include "opener/base/token_bucket.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// Of one generation's decisions.
struct AuditCounts {
    std::uint64_t written = 0;  // records
    std::uint64_t counted =
        0;  // refusals that have no record of their own, but are counted with others like them
    std::uint64_t failed = 0;  // that could not be put on record
};

class AuditTrail {
  public:
    using Clock = std::chrono::steady_clock;

    // `ring` null: nothing is recorded (--audit none). `policy_digest` is the whole of it.
    AuditTrail(AuditRing* ring, std::uint32_t generation, std::string_view policy_digest)
        : ring_(ring), generation_(generation), policy_digest_(policy_digest) {}

    // `settings` is the policy's `audit:`. Before it is given everything is recorded.
    void apply(const policy::AuditSettings& settings) noexcept { settings_ = settings; }

    // Records a decision; head, session and peer of `record` are filled in here. The number of the record; 0: the policy
    // wants none of this kind, or it is counted together with others like it. False: it could not be recorded, and a
    // grant must not leave.
    struct Recorded {
        std::uint64_t sequence = 0;
        bool may_leave = true;
    };
    Recorded decision(SessionAudit& session, DecisionRecord record, Clock::time_point now);
    // Grants that leave together or not at all: each is on record, or none is. The number of the first, which the others
    // follow; head, session and peer are filled in.
    Recorded grants_together(SessionAudit& session, std::span<DecisionRecord> records);

    // The generation begins to serve; `cause` in words.
    void start(std::string_view cause);
    // Something befell the generation; nothing depends on whether it could be recorded.
    void event(EventRecord record);
    // The same of what a user can bring about as often as he likes: he pays for it.
    void event_of(UserQuota& share, const EventRecord& record, Clock::time_point now);
    // The same of a session.
    void session_event(SessionAudit& session, std::string_view event, std::string_view cause,
                       Clock::time_point now);

    // Connections that are not served: nobody can say whose one is, or its user has as many as he may have. Those who make
    // them share one budget, above which none is recorded.
    void session_refused(const EventRecord& record, Clock::time_point now);

    // Records what was counted and whose second is over; of one session, whatever its second: before that ends.
    void settle(Clock::time_point now);
    void settle(SessionAudit& session, Clock::time_point now);
    // When settle() is next of use.
    std::optional<Clock::time_point> settle_at() const noexcept { return settle_at_; }

    // No more than this many records follow, under the numbers that the ring counts by now; above that none can be made.
    void continue_with(std::uint64_t records) noexcept {
        if (ring_ != nullptr) end_ = ring_->next_sequence() + records;
    }

    const AuditCounts& counts() const noexcept { return counts_; }

    // Of a record with that number, now.
    RecordHead head(std::uint64_t sequence) const;

  private:
    Recorded write(const DecisionRecord& record);
    bool append(std::string_view lines, std::uint64_t count = 1) noexcept {
        return ring_->next_sequence() + count <= end_ && ring_->append(lines, count);
    }
    bool is_counted(SessionAudit& session, const DecisionRecord& record, Clock::time_point now);
    void record_counted(SessionAudit& session, RepeatedRefusal& refusal, Clock::time_point now);

    AuditRing* ring_;
    std::uint32_t generation_;
    std::uint64_t end_ = std::numeric_limits<std::uint64_t>::max();
    std::string policy_digest_;
    policy::AuditSettings settings_{};
    std::string line_{};
    std::string lines_{};  // of grants_together()
    AuditCounts counts_{};
    std::vector<SessionAudit*> counting_{};
    TokenBucket refused_sessions_{record_bytes_per_second, record_bytes_at_once};
    std::optional<Clock::time_point> settle_at_{};
};

}  // namespace fdbroker::opener
