// SPDX-License-Identifier: MIT
// The requests of a session that helpers carry out: from where the loop gives them away to what came of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "opener/broker/decision_recorder.hpp"
#include "opener/broker/peer_connection.hpp"
#include "opener/broker/service.hpp"
#include "opener/helpers/helper_task.hpp"
#include "opener/helpers/messages.hpp"
#include "opener/request/decide.hpp"
#include "opener/request/outcome.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

class SessionHelpers {
  public:
    using Clock = std::chrono::steady_clock;

    // The arguments must outlive it. `session` is told to the tasks alone.
    SessionHelpers(Service& service, Session& session, const PeerConnection& connection,
                   const policy::Peer& peer, DecisionRecorder& recorder)
        : service_(service), session_(session), connection_(connection), peer_(peer), recorder_(recorder) {}

    // The number of what an earlier request of this session has left going on, and this one is about; 0: nothing.
    std::uint64_t continued_by(const proto::Request& request) const;
    // Completion::needs_helper: one gets it, and answers. `continues`: the above; the helper that has it does it.
    Outcome hand_over(const GrantedRequest& granted, std::uint64_t continues, Clock::time_point received_at);
    // For an all-or-nothing message. False: no helper takes it, and each of `outcomes` says so.
    bool hand_over_together(std::span<const proto::Request> requests, std::span<Outcome> outcomes,
                            Clock::time_point received_at);

    // Tasks that helpers have not ended yet.
    std::size_t tasks() const noexcept { return tasks_; }
    // Whether there are any, of whatever generation.
    bool has_tasks_anywhere() const noexcept {
        return tasks_ != 0 || service_.orphaned_requests.work_for(connection_.id());
    }

    // Puts the outcomes on record.
    Verdict reported(HelperTask& task, const Report& report);
    void delivered() noexcept { --tasks_; }
    // Gathers refusals, as long as the session has not ended.
    void failed(const HelperTask& task, int errno_value, std::string_view reason, bool session_has_ended);

  private:
    void submit(std::span<const proto::Request> requests, proto::Batch batch,
                std::span<const HelperTask::Part> decided, std::chrono::milliseconds deadline,
                std::uint64_t continues, Clock::time_point received_at);

    Service& service_;
    Session& session_;
    const PeerConnection& connection_;
    const policy::Peer& peer_;
    DecisionRecorder& recorder_;
    std::size_t tasks_ = 0;
};

}  // namespace fdbroker::opener
