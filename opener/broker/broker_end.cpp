// SPDX-License-Identifier: MIT
// How a broker ends: it retires, or hands over and finishes what its helpers have begun.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "opener/broker/broker.hpp"
#include "opener/control/server.hpp"

namespace fdbroker::opener {

using proto::Result;
using std::chrono::milliseconds;

namespace {

// Time limit for parked replies while the next generation waits: a peer that does not read holds up all peers meanwhile.
// Replies parked after that are answered by the next one, from the in-flight log.
constexpr milliseconds hand_over_timeout{100};
// How long the broker lives on for what helpers have begun when it handed over.
constexpr std::chrono::seconds finish_timeout{60};

}  // namespace

void Broker::retire(const to_generation::Retire& message) {
    const auto end_by = Clock::now() + milliseconds(message.timeout);
    if (phase_ == Phase::draining) {
        return phase_end_.set_by(end_by);
    }
    phase_ = Phase::retiring;
    phase_end_.set(end_by);
    for (auto& [connection_id, session] : sessions_) session->retire();
}

void Broker::tell_use(const Session& session) {
    const SessionUse& use = session.use();
    static_cast<void>(start_.link.send(to_supervisor::NoteUse{
        .connection_id = session.connection_id(), .requests = use.requests(), .refused = use.refused()}));
}

void Broker::hand_over() {
    phase_ = Phase::handing_over;
    service_.control.hand_over();
    phase_end_.set_after(hand_over_timeout);
    paused_.clear();
    resume_.stop();
    for (auto& [connection_id, session] : sessions_) {
        tell_use(*session);
        if (session->state() == Session::State::writable) continue;
        ignore(*session);
        round_robin_.remove(*session);
    }
}

// The supervisor answers at once, and until then no record may be made.
Result<void> Broker::drain_helpers() {
    leave_sessions();
    const auto records = static_cast<std::uint32_t>(service_.helpers.max_records());
    if (auto sent = start_.link.send(to_supervisor::HandedOver{records}); !sent) return sent;
    while (phase_ != Phase::draining) {
        auto received = start_.link.receive();
        if (!received) return std::unexpected(received.error());
        if (*received) {
            dispatch(std::move(**received), LinkPhase::handed_over);
            continue;
        }
        pollfd readable{start_.link.descriptor().number(), POLLIN, 0};
        if (::poll(&readable, 1, -1) < 0 && errno != EINTR) return proto::system_error("poll");
    }
    return {};
}

void Broker::finish(const to_generation::Finish& message) {
    service_.audit.continue_with(message.records);
    phase_ = Phase::draining;
    phase_end_.set_after(finish_timeout);
}

// All but those of which helpers have requests. What is still parked the next generation answers from the in-flight log.
void Broker::leave_sessions() {
    service_.audit.settle(Clock::time_point::max());
    service_.helpers.end_with_generation();
    for (Session* session : std::exchange(waiting_, {})) ignore(*session);
    for (auto& [connection_id, session] : sessions_) {
        round_robin_.remove(*session);
        session->hand_over();
    }
    std::erase_if(sessions_, [](const auto& entry) { return entry.second->tasks() == 0; });
    // That they have ended is on record: they are nobody's any more.
    for (const auto& session : lingering_) release(session->connection_id());
    std::erase_if(lingering_, [](const auto& session) { return session->tasks() == 0; });
}

}  // namespace fdbroker::opener
