// SPDX-License-Identifier: MIT
// The one place where a generation puts on record what it decided.
//
// Failures and events that repeat are counted (session_audit.hpp). Every record of a user's sessions is charged to the
// user's budget of bytes (user_quota.hpp): a user who fills the log all the same is slowed, and nobody else.
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
#include "opener/base/event_loop.hpp"
#include "opener/base/repeats.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// Counts of a generation's decisions.
struct AuditCounts {
    std::uint64_t written = 0;  // records
    std::uint64_t counted =
        0;  // refusals that have no record of their own, but are counted with others like them
    std::uint64_t failed = 0;  // that could not be put on record
    std::uint64_t slowed = 0;  // times that a user began to be slowed for the bytes of records
};

class AuditTrail {
  public:
    using Clock = std::chrono::steady_clock;

    // `ring` null: nothing is recorded (--audit none). `policy_digest` is the whole of it.
    // What was counted is put on record by `loop`, which outlives the trail.
    AuditTrail(AuditRing* ring, std::uint32_t generation, std::string_view policy_digest, EventLoop& loop)
        : ring_(ring),
          generation_(generation),
          policy_digest_(policy_digest),
          settle_(loop.timer([this](Clock::time_point now) { settle(now); })) {}
    AuditTrail(const AuditTrail&) = delete;
    AuditTrail& operator=(const AuditTrail&) = delete;

    // `settings` is the policy's `audit:`. Before it is given everything is recorded.
    void apply(const policy::AuditSettings& settings) noexcept { settings_ = settings; }

    // Records a decision; head, session and peer of `record` are filled in here. No record is made where the policy wants
    // none of this kind, or where it is counted together with others like it.
    Recorded decision(SessionAudit& session, DecisionRecord record, Clock::time_point now);
    // Grants that leave together or not at all: each is on record, or none is. The number of the first, which the others
    // follow; head, session and peer are filled in.
    Recorded grants_together(SessionAudit& session, std::span<DecisionRecord> records, Clock::time_point now);

    // The generation begins to serve; `cause` in words.
    void start(std::string_view cause);
    // Something befell the generation; nothing depends on whether it could be recorded.
    void event(EventRecord record);
    // The same of what a user can bring about without end: it may be counted, and is charged to the user.
    void event_of(UserQuota& quota, const EventRecord& record, Clock::time_point now);
    // The same of a session.
    void session_event(SessionAudit& session, std::string_view event, std::string_view cause,
                       Clock::time_point now);

    // Connections that are not served: nobody can say whose one is, or its user has as many as may be. `record.count` of
    // them; nobody is charged for these, but they may be counted.
    void session_refused(const EventRecord& record, Clock::time_point now);

    // Records what was counted and whose second is over. The loop's timer does so in time.
    void settle(Clock::time_point now);

    // No more than this many records follow, under the numbers that the ring counts by now; above that none can be made.
    void continue_with(std::uint64_t records) noexcept {
        if (ring_ != nullptr) end_ = ring_->next_sequence() + records;
    }

    const AuditCounts& counts() const noexcept { return counts_; }

    // The head of a record with that number, now.
    RecordHead head(std::uint64_t sequence) const;

  private:
    Recorded write(const DecisionRecord& record);
    bool append(std::string_view lines, std::uint64_t count = 1) noexcept {
        return ring_->next_sequence() + count <= end_ && ring_->append(lines, count);
    }
    bool is_counted(SessionAudit& session, const DecisionRecord& record, Clock::time_point now);
    static UserRecords& records_of(UserQuota& quota);
    void charge(UserQuota& quota, std::size_t bytes, Clock::time_point now) noexcept;
    void await_settling(UserQuota& quota);
    // Functions that put what was counted on record.
    auto recorder_of_failures(UserQuota& quota, Clock::time_point now);
    auto recorder_of_events(UserQuota& quota, Clock::time_point now);
    auto recorder_of_refused_sessions();

    AuditRing* ring_;
    std::uint32_t generation_;
    std::uint64_t end_ = std::numeric_limits<std::uint64_t>::max();
    std::string policy_digest_;
    policy::AuditSettings settings_{};
    std::string line_{};
    std::string lines_{};  // the lines of grants_together()
    AuditCounts counts_{};
    std::vector<UserQuota*> counting_{};
    Repeats<RepeatedEvent> refused_sessions_{{.whole = max_whole_records, .kinds = max_repeated_kinds}};
    Timer settle_;
};

}  // namespace fdbroker::opener
