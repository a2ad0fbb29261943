// SPDX-License-Identifier: MIT
// The audit's memory: of a session the text that all its records share, of a user the records that repeat.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "opener/audit/audit_record.hpp"
#include "opener/base/repeats.hpp"
#include "opener/quota/user_quota.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// Failures of one kind: alike in call, operations, rule, step, errno and listener, whatever their paths.
class RepeatedFailure {
  public:
    struct Event {
        const DecisionRecord& record;
        std::string_view listener;
    };

    explicit RepeatedFailure(const Event& event);
    bool is_like(const Event& event) const noexcept;
    void keep(const Event& event);
    // The record that stands for `count` failures; borrows from this object.
    DecisionRecord record(std::uint64_t count) const noexcept;

  private:
    DecisionRecord example_{};
    std::string listener_;
    // Copies: the texts of the event are the peer's.
    std::string peer_{};
    std::string path_{};
    std::string new_path_{};
    std::string reason_{};
};

// Events of one kind: alike in name and rule; those about sessions also in their cause.
class RepeatedEvent {
  public:
    explicit RepeatedEvent(const EventRecord& event);
    bool is_like(const EventRecord& event) const noexcept;
    void keep(const EventRecord& event);
    // The record that stands for `count` events; borrows from this object.
    EventRecord record(std::uint64_t count) const noexcept;

  private:
    EventRecord example_{};
    std::string event_;
    std::string cause_;
    std::string peer_{};
    std::string path_{};
};

// Records of a kind that are written one by one in a second.
inline constexpr unsigned max_whole_records = 20;
inline constexpr std::size_t max_repeated_kinds = 16;

// A user's records that repeat.
struct UserRecords {
    Repeats<RepeatedFailure> failures{{.whole = max_whole_records, .kinds = max_repeated_kinds}};
    Repeats<RepeatedEvent> events{{.whole = max_whole_records, .kinds = max_repeated_kinds}};
};

class SessionAudit {
  public:
    SessionAudit(std::uint64_t connection_id, std::string peer_text, UserQuota& of_user)
        : session(connection_id), peer(std::move(peer_text)), quota(of_user) {}
    SessionAudit(const SessionAudit&) = delete;
    SessionAudit& operator=(const SessionAudit&) = delete;

    const std::uint64_t session;
    const std::string peer;  // made by audit_peer()
    // The beginning of `peer`.
    const std::string_view listener = std::string_view(peer).substr(0, peer.find(R"(,"peer":)"));
    UserQuota& quota;
};

}  // namespace fdbroker::opener
