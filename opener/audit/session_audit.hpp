// SPDX-License-Identifier: MIT
// What the audit keeps of one session: the text that all its records share, and the refusals that repeat.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "opener/audit/audit_record.hpp"
#include "opener/quota/user_quota.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// Refusals that are alike in all but their number and time. In a second so many are recorded one by one; the others are
// counted, and recorded as one when the second is over.
inline constexpr unsigned refusals_one_by_one = 20;
inline constexpr std::chrono::seconds refusals_counted_for{1};

class RepeatedRefusal {
  public:
    using Clock = std::chrono::steady_clock;

    bool is_like(const DecisionRecord& record) const noexcept;
    // The first of its kind.
    void begin(const DecisionRecord& record, Clock::time_point now);
    // One more, within the second. False: it is only counted.
    bool one_by_one(const DecisionRecord& record) noexcept;

    std::uint64_t counted() const noexcept { return counted_; }
    bool is_over(Clock::time_point now) const noexcept { return now - since_ >= refusals_counted_for; }
    Clock::time_point since() const noexcept { return since_; }
    // What stands for those that were counted, with number and duration of the last; borrows from this object.
    DecisionRecord take_counted() noexcept;

  private:
    // Copies: what they are compared with is the peer's.
    std::string path_{};
    std::string new_path_{};
    std::string reason_{};
    DecisionRecord last_{};
    Clock::time_point since_{};
    unsigned recorded_ = 0;
    std::uint64_t counted_ = 0;
};

class SessionAudit {
  public:
    SessionAudit(std::uint64_t token, std::string peer_text, UserQuota& of_user)
        : session(token), peer(std::move(peer_text)), share(of_user) {}
    SessionAudit(const SessionAudit&) = delete;
    SessionAudit& operator=(const SessionAudit&) = delete;

    const std::uint64_t session;
    const std::string peer;  // of audit_peer()
    UserQuota& share;
    // A few, since a peer that polls does so for a few files. Who asks for many in turn is bounded by his share.
    std::array<RepeatedRefusal, 4> repeated{};
    bool is_counting = false;  // AuditTrail's
};

}  // namespace fdbroker::opener
