// SPDX-License-Identifier: MIT
// One connection, and the way of every request on it:
//
//   receive → parse → identify → decide → resolve → inspect → deliver → record
//
// A session is put together from four parts, and knows what comes next: PeerConnection receives and sends,
// RequestProcessor decides and executes, SessionHelpers has what may block done by helpers, DecisionRecorder puts on record.
// (Identification comes first in time: once per connection, before the first message. The record of a request is made
// before its reply leaves.)
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/broker/decision_recorder.hpp"
#include "opener/broker/peer_connection.hpp"
#include "opener/broker/request_processor.hpp"
#include "opener/broker/service.hpp"
#include "opener/broker/session_helpers.hpp"
#include "opener/control/host.hpp"
#include "opener/identity/identity.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

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

    ConnectionId connection_id() const noexcept { return connection_.id(); }
    State state() const noexcept { return state_; }
    UserQuota& quota() const noexcept { return connection_.quota(); }
    const policy::PeerIdentity& peer() const noexcept { return peer_.identity(); }
    proto::BorrowedFd descriptor() const noexcept { return connection_.socket(); }
    SessionFacts facts() const;
    // When it last asked for something, or connected.
    std::chrono::steady_clock::time_point last_used() const noexcept {
        return use().last().value_or(use().since());
    }

    // The session's use in earlier generations, and the use that the next one is told.
    void carry_on(const SessionUse::Earlier& earlier) noexcept { recorder_.use().carry_on(earlier); }
    const SessionUse& use() const noexcept { return recorder_.use(); }
    // Puts on record that it is a new connection, not one taken over from an earlier generation.
    void record_start() { recorder_.record_event("session-start", ""); }
    // Serves what is there, in whole messages, until requests_per_turn or more are answered, so that no session keeps
    // the others waiting. Never blocks on the peer.
    State serve();
    std::chrono::steady_clock::time_point paused_until() const noexcept { return quota().paused_until(); }
    // The wait is over.
    State resume() noexcept { return state_ = State::readable; }
    // Looks whether the peer has read; sends what was parked.
    State flush();

    bool has_unread() const noexcept { return connection_.has_unread(); }
    std::size_t unread_descriptors() { return connection_.unread_descriptors(); }
    // Since when it has been in State::writable.
    std::chrono::steady_clock::time_point waiting_since{};  // the broker's

    // The session must live as long as it has tasks.
    std::size_t tasks() const noexcept { return helpers_.tasks(); }
    // The reports to HelperPool::Owner about the session's tasks.
    Verdict task_reported(HelperTask& task, const Report& report) { return helpers_.reported(task, report); }
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

  private:
    // The steps; each false when the session goes no further now.
    bool must_pause() const noexcept;
    void receive_failed(const proto::Error& error);
    bool handle(std::span<const std::byte> message);
    bool handle_hello(std::span<const std::byte> message);
    bool handle_requests(std::span<const std::byte> message);
    bool send_replies();

    void answer_owed();
    void answer_deferred();
    void drain_or_finish(std::string_view cause);
    void finish_if_drained();
    void finish(std::string_view cause);

    Service& service_;
    policy::Peer peer_;
    PeerConnection connection_;
    DecisionRecorder recorder_;
    SessionHelpers helpers_;
    RequestProcessor processor_;

    State state_ = State::readable;
    bool retiring_ = false;
    bool handed_over_ = false;
    std::vector<std::uint32_t> owed_{};  // lost ids that are not answered yet
    std::vector<std::byte> deferred_{};  // a message of requests that came before the replies were parked
    std::string_view end_cause_{};       // while it is draining
    std::size_t answered_ = 0;           // in this turn
    std::chrono::steady_clock::time_point received_at_{};

    // Whether the peer keeps several requests under way, so that their replies are worth gathering.
    bool pipelines_ = false;
    std::uint8_t turns_ = 0;

  public:
    Source source{};  // the broker's; ends before the socket
};

}  // namespace fdbroker::opener
