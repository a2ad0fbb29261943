// SPDX-License-Identifier: MIT
// The way of a session's requests through the loop: decided, executed, recorded, and their replies gathered. Requests that
// may block go to helpers (session_helpers.hpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "opener/broker/decision_recorder.hpp"
#include "opener/broker/service.hpp"
#include "opener/broker/session_helpers.hpp"
#include "opener/request/outcome.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

class RequestProcessor {
  public:
    using Clock = std::chrono::steady_clock;

    // The arguments must outlive it.
    RequestProcessor(Service& service, const policy::Peer& peer, DecisionRecorder& recorder,
                     SessionHelpers& helpers)
        : service_(service), peer_(peer), recorder_(recorder), helpers_(helpers) {}

    // Gathers a reply for each request of the message that no helper takes.
    void process(std::span<const std::byte> message, std::span<const proto::Request> requests,
                 Clock::time_point received_at);

  private:
    void process_together(std::span<const proto::Request> requests, Clock::time_point received_at);
    // `others` of the same message are still to be answered.
    void process(const proto::Request& request, std::size_t others, Clock::time_point received_at);
    // Completion::needs_helper: one has it, and answers.
    Outcome carry_out(const proto::Request& request, std::size_t others, Clock::time_point received_at);

    Service& service_;
    const policy::Peer& peer_;
    DecisionRecorder& recorder_;
    SessionHelpers& helpers_;
};

}  // namespace fdbroker::opener
