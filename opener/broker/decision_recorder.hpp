// SPDX-License-Identifier: MIT
// Puts on record what became of a session's requests, and tells it to those who look on: metrics, watchers, and a candidate
// that decides beside the policy. None of these matters to the peer.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/audit/session_audit.hpp"
#include "opener/broker/peer_connection.hpp"
#include "opener/broker/service.hpp"
#include "opener/request/outcome.hpp"
#include "opener/request/session_use.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

class DecisionRecorder {
  public:
    using Clock = std::chrono::steady_clock;

    // The arguments must outlive it.
    DecisionRecorder(Service& service, const PeerConnection& connection, const policy::Peer& peer, pid_t pid);

    // The record borrows the texts of both.
    static DecisionRecord record_of(const proto::Request& request, const Outcome& outcome,
                                    std::chrono::nanoseconds duration);
    Recorded record(const proto::Request& request, const Outcome& outcome, Clock::time_point received_at);
    // For an all-or-nothing message. Grants may leave only when all of them are on record.
    std::vector<Recorded> record_together(std::span<DecisionRecord> records, Clock::time_point now);
    // `cause` in words.
    void record_event(std::string_view name, std::string_view cause);

    SessionUse& use() noexcept { return use_; }
    const SessionUse& use() const noexcept { return use_; }
    pid_t pid() const noexcept { return pid_; }

  private:
    void tell(DecisionRecord& record, const Recorded& recorded, Clock::time_point now);
    void compare_with_shadow(const DecisionRecord& record, Clock::time_point now);

    Service& service_;
    const policy::Peer& peer_;
    std::optional<policy::Peer> shadow_peer_{};  // as the candidate sees the peer, where there is one
    pid_t pid_;
    SessionAudit audit_;
    SessionUse use_{};
};

}  // namespace fdbroker::opener
