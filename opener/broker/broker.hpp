// SPDX-License-Identifier: MIT
// What a generation does once it has loaded its policy and is confined: serves sessions in one loop, with the helpers'
// and the control clients' part of it, until the supervisor tells it to hand over or to retire. One that has handed over
// lives on as long as its helpers are at work.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "opener/base/backoff.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/base/repeats.hpp"
#include "opener/broker/round_robin.hpp"
#include "opener/broker/session.hpp"
#include "opener/control/host.hpp"
#include "opener/helpers/helper_pool.hpp"
#include "opener/identity/identity.hpp"
#include "opener/link/generation_start.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// An event about a user (base/repeats.hpp).
class RepeatedUid {
  public:
    explicit RepeatedUid(std::uint32_t uid) noexcept : uid_(uid) {}
    bool is_like(std::uint32_t uid) const noexcept { return uid == uid_; }
    void keep(std::uint32_t /*uid*/) noexcept {}

  private:
    std::uint32_t uid_;
};

class Broker final : public ControlHost, HelperPool::Owner {
  public:
    // The arguments must outlive the broker.
    Broker(const GenerationStart& start, Service& service, const RefusedPeers& refused, EventLoop& loop);
    Broker(const Broker&) = delete;
    Broker& operator=(const Broker&) = delete;

    std::vector<SessionFacts> sessions() const override;
    std::vector<SlowedUser> slowed_users() const override;
    std::size_t session_count() const override { return sessions_.size(); }
    std::size_t descriptors_in_flight() const override { return service_.quotas.unread(); }
    const Metrics& metrics() const override { return service_.request_services.metrics; }
    const AuditCounts& audit_counts() const override { return service_.audit.counts(); }
    const HelperPool& helpers() const override { return service_.helpers; }
    void tell(const ToSupervisor& message) override { static_cast<void>(start_.link.send(message)); }

    // Until it has been told to end and has ended what it had begun. disconnected: the supervisor is gone.
    proto::Result<void> run();

  private:
    using Clock = std::chrono::steady_clock;

    enum class Phase {
        serving,
        handing_over,  // reads nothing, until nothing is parked
        draining,      // another one serves; ends when no helper is at work and nothing is parked
        retiring,      // takes nothing new, and ends when every session has, and what they had going on
    };

    proto::Result<void> serve_link();
    // The phases that the link's table (broker_link.cpp) tells apart.
    enum class LinkPhase : std::uint8_t { starting, serving, retiring, handing_over, handed_over, draining };
    LinkPhase link_phase() const noexcept;
    void dispatch(GenerationLink::Received received, LinkPhase phase);
    void activate();
    void answer_lost(const to_generation::GenerationLost& message);
    void take_left(const to_generation::GenerationDraining& message);
    void adopt(const to_generation::Adopt& message, proto::UniqueFd socket);
    void adopt_control(const to_generation::AdoptControl& message, proto::UniqueFd socket);
    void settle_command(const to_generation::CommandAnswer& message, proto::UniqueFd said);
    void record_rejected(const to_generation::ConnectionsRejected& message);
    void record_wait(const to_generation::ConnectionsWait& message);
    void record_failed_reload(const to_generation::ReloadFailed& message);
    void answer_ping(const to_generation::Ping& message);
    void tell_uid_is_taken();
    void await_events();
    void serve_turns();
    std::size_t handle(Session& session);
    void follow(Session& session, Session::State before, Session::State after);
    void tell_slowed(const Session& session);
    void make_room_for_waiting();
    void make_room_for_newcomer();
    void look_again();
    static void ignore(Session& session);
    void look_again_soon();
    void resume_paused(Clock::time_point now);
    void end_phase();
    void release(ConnectionId connection_id);
    void end_session(Session& session);
    void hand_over();
    proto::Result<void> drain_helpers();
    void leave_sessions();
    void finish(const to_generation::Finish& message);
    void retire(const to_generation::Retire& message);
    void tell_use(const Session& session);

    proto::BorrowedFd connection_of(const HelperTask& task) override { return task.session->descriptor(); }
    Verdict reported(HelperTask& task, const Report& report) override {
        return task.session->task_reported(task, report);
    }
    void delivered(HelperTask& task, const Sent& sent) override;
    void failed(HelperTask& task, int errno_value, const char* reason) override;
    void record_for(std::uint32_t uid, const EventRecord& record);
    void ended(const HeldUp& request, int errno_value) override;
    void left_behind(const HeldUp& request, std::size_t stuck) override;
    void came_back(std::uint32_t uid, std::size_t stuck) override;
    void zygote_lost() override;

    bool has_handed_over() const noexcept {
        return phase_ == Phase::handing_over && (waiting_.empty() || !phase_end_.due());
    }
    bool finished() const noexcept {
        return (phase_ == Phase::retiring && sessions_.empty() && service_.helpers.background() == 0) ||
               (phase_ == Phase::draining && waiting_.empty() && !service_.helpers.has_work());
    }

    const GenerationStart& start_;
    Service& service_;
    const RefusedPeers& refused_;
    EventLoop& loop_;
    std::unordered_map<ConnectionId, std::unique_ptr<Session>> sessions_{};
    std::vector<Session*> waiting_{};  // in State::writable, longest first
    std::vector<Session*> paused_{};   // in State::paused, and not in the loop
    Timer resume_;                     // the first of these
    // A message a minute for each user; the metric counts.
    Repeats<RepeatedUid> slowed_told_{{.whole = 1, .kinds = 64, .interval = std::chrono::minutes(1)}};
    Timer look_again_;
    Backoff look_delay_;
    RoundRobin round_robin_{};
    // Ended, with descriptors that the peer has not taken, or requests that are with helpers.
    std::vector<std::unique_ptr<Session>> lingering_{};
    OrphanedRequests::LostRequests lost_{};  // until their sessions are adopted
    bool activated_ = false;
    bool told_uid_is_taken_ = false;
    Phase phase_ = Phase::serving;
    Timer phase_end_;     // ends any phase but serving
    bool ended_ = false;  // whatever is still there
    std::optional<proto::Error> link_error_{};
};

}  // namespace fdbroker::opener
