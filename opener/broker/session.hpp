// SPDX-License-Identifier: MIT
// One connection, and the way of every request on it:
//
//   receive → parse → identify → decide → resolve → inspect → deliver → record
//
// session.cpp reads in that order, each step a call into one module. A helper resolves, inspects and delivers whatever may
// block; session_tasks.cpp is the session's end of that. (Identification comes first in time: once per connection, before
// the first message. The record of a request is made before its reply leaves.)
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/audit/audit_trail.hpp"
#include "opener/audit/session_audit.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/broker/busy_wait.hpp"
#include "opener/control/server.hpp"
#include "opener/helpers/helper_pool.hpp"
#include "opener/identity/identity.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/metrics/metrics.hpp"
#include "opener/operations/execute.hpp"
#include "opener/quota/user_quota.hpp"
#include "opener/request/decide.hpp"
#include "opener/request/delivery.hpp"
#include "opener/request/shadow.hpp"
#include "policy/matching/policy.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// Shared by all sessions of a generation. Used by one thread.
struct Service {
    RequestServices request_services;
    AuditTrail& audit;
    InflightLog& inflight;
    ControlServer& control;
    HelperPool& helpers;
    OrphanedRequests& orphaned_requests;
    UserQuotas& quotas;

    BusyWait busy_wait;
    Delivery delivery{};
    std::array<proto::Request, proto::max_requests> requests{};
    Shadow* shadow = nullptr;  // null: no candidate decides beside the policy
};

class Session {
  public:
    // The event that the session waits for.
    enum class State {
        readable,  // the peer's next request
        writable,  // the peer to read: replies are parked, or too many descriptors are on their way to it
        paused,    // paused_until(): its user has used more than there is for it
        // helpers, of whatever generation: the peer sends nothing more, and reads what they answer
        draining,
        ended,  // nothing: the descriptor has been shut down, the cause recorded
    };

    Session(Service& service, ConnectionId connection_id, proto::UniqueFd socket, IdentifiedPeer peer);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    ConnectionId connection_id() const noexcept { return connection_id_; }
    State state() const noexcept { return state_; }
    UserQuota& quota() const noexcept { return quota_; }
    const policy::PeerIdentity& peer() const noexcept { return peer_.identity(); }
    proto::BorrowedFd descriptor() const noexcept { return socket_.borrow(); }
    SessionFacts facts() const;
    // When it last asked for something, or connected.
    std::chrono::steady_clock::time_point last_used() const noexcept {
        return use_.last().value_or(use_.since());
    }

    // The session's use in earlier generations, and the use that the next one is told.
    void carry_on(const SessionUse::Earlier& earlier) noexcept { use_.carry_on(earlier); }
    const SessionUse& use() const noexcept { return use_; }
    // Puts on record that it is a new connection, not one taken over from an earlier generation.
    void record_start();
    // Serves what is there, in whole messages, until requests_per_turn or more are answered, so that no session keeps
    // the others waiting. Never blocks on the peer.
    State serve();
    std::chrono::steady_clock::time_point paused_until() const noexcept { return quota_.paused_until(); }
    // The wait is over.
    State resume() noexcept { return state_ = State::readable; }
    // Looks whether the peer has read; sends what was parked.
    State flush();

    // Whether there is anything that the peer has not read.
    bool has_unread() const noexcept;
    // Since when it has been in State::writable.
    std::chrono::steady_clock::time_point waiting_since{};  // the broker's
    // Descriptors that are on their way to this peer because it has not read them; an upper bound until all are read.
    std::size_t unread_descriptors();

    // Tasks of this session that helpers have not ended yet. The session must live as long as there are some.
    std::size_t tasks() const noexcept { return tasks_; }
    // The reports to HelperPool::Owner about the session's tasks.
    Verdict task_reported(HelperTask& task, const Report& report);
    State task_delivered(const Sent& sent);
    State task_failed(const HelperTask& task, int errno_value, std::string_view reason);
    // Looks whether an earlier generation's helpers have done what a draining session waits for.
    State drain();

    // Answers requests that an earlier generation took and did not live to answer. Serves a message of another kind that it
    // took, when one is given. More than max_lost ids end the session: only a generation that was taken over, or several
    // that died in a row, can leave so many.
    State answer_lost(std::span<const std::uint32_t> ids, std::span<const std::byte> message);

    // The next generation has the connection. Nothing more is read here, and parked replies are left to it. Requests that
    // helpers have begun are answered here. The next generation records the end of the session.
    void hand_over() noexcept;
    // Takes no more than what the peer has already sent. The session ends when that is answered.
    void retire();
    // Ends the session from this side; `cause` in words, for the record and the peer.
    void end(int errno_value, std::string_view cause);

    // In the last call of serve().
    std::size_t answered() const noexcept { return answered_; }
    bool has_turn = false;  // set by RoundRobin

    static constexpr std::size_t requests_per_turn = 32;
    // Noted, with helpers, and in one message that was not noted yet.
    static constexpr std::size_t max_lost = 2 * proto::max_requests + max_helper_requests_of_user;
    // Above this the session is not read until the peer has taken what is there: two full replies.
    static constexpr std::size_t max_unread_descriptors = 2 * proto::max_requests;

  private:
    // The steps; each false when the session goes no further now.
    bool peer_has_read();
    bool may_be_read();
    bool must_pause() const noexcept;
    void receive_failed(const proto::Error& error);
    bool handle(std::span<const std::byte> message);
    bool handle_hello(std::span<const std::byte> message);
    bool handle_requests(std::span<const std::byte> message);
    // `others` of the same message are still to be answered. Completion::needs_helper: one has it, and answers.
    Outcome carry_out(const proto::Request& request, std::size_t others);
    // The number of what an earlier request of this session has left going on, and this one is about; 0: nothing.
    std::uint64_t continued_by(const proto::Request& request) const;
    // `continues`: the above; the helper that has it does it.
    Outcome hand_to_helper(const GrantedRequest& granted, std::uint64_t continues);
    // For an all-or-nothing message. False: no helper takes it, and each of `outcomes` says so.
    bool hand_to_helper_together(std::span<const proto::Request> requests, std::span<Outcome> outcomes);
    void submit(std::span<const proto::Request> requests, proto::Batch batch,
                std::span<const HelperTask::Part> decided, std::chrono::milliseconds deadline,
                std::uint64_t continues);
    void answer_all(std::span<const std::byte> message, std::span<const proto::Request> requests);
    void answer_together(std::span<const proto::Request> requests);
    void answer(const proto::Request& request, std::size_t others);
    void count(DecisionRecord& record, const Recorded& recorded, std::chrono::steady_clock::time_point now);
    // session_shadow.cpp
    void identify_for_shadow();
    void compare_with_shadow(const DecisionRecord& record, std::chrono::steady_clock::time_point now);
    static DecisionRecord record_of(const proto::Request& request, const Outcome& outcome,
                                    std::chrono::nanoseconds duration);
    Recorded record(const proto::Request& request, const Outcome& outcome,
                    std::chrono::steady_clock::time_point received_at);
    // For an all-or-nothing message. Grants may leave only when all of them are on record.
    std::vector<Recorded> record_together(std::span<DecisionRecord> records,
                                          std::chrono::steady_clock::time_point now);
    void count_unread(std::size_t descriptors) noexcept;
    bool has_tasks_anywhere() const noexcept;
    void drain_or_finish(std::string_view cause);
    void finish_if_drained();
    bool send_replies();
    void finish(std::string_view cause);
    void release_entry() noexcept;
    void answer_owed();
    void answer_deferred();

    Service& service_;
    ConnectionId connection_id_;
    proto::UniqueFd socket_;
    policy::Peer peer_;
    std::optional<policy::Peer> shadow_peer_{};  // as the candidate sees the peer, where there is one
    pid_t pid_;
    UserQuota& quota_;
    SessionAudit audit_;
    SessionUse use_{};
    State state_ = State::readable;
    bool retiring_ = false;
    bool handed_over_ = false;
    InflightEntry* entry_ = nullptr;  // holds the requests whose replies are being gathered
    std::deque<ParkedReplies> parked_{};
    std::vector<std::uint32_t> owed_{};  // lost ids that are not answered yet
    std::vector<std::byte> deferred_{};  // a message of requests that came before the replies were parked
    std::size_t tasks_ = 0;
    std::string_view end_cause_{};  // while it is draining
    std::size_t answered_ = 0;      // in this turn
    std::size_t unread_ = 0;        // descriptors sent since the peer was last seen to have read everything
    std::chrono::steady_clock::time_point received_at_{};

    // Whether the peer keeps several requests under way, so that their replies are worth gathering.
    bool pipelines_ = false;
    std::uint8_t turns_ = 0;

  public:
    Source source{};  // the broker's; ends before the socket
};

}  // namespace fdbroker::opener
