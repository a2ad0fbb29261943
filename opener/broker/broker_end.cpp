// SPDX-License-Identifier: MIT
// How a broker ends: it retires, or hands over and finishes what its helpers have begun.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "opener/broker/broker.hpp"
#include "opener/control/server.hpp"

namespace fdbroker::opener {

using proto::Result;
using std::chrono::milliseconds;

namespace {

// How long a peer that does not read its replies can hold up the end of a generation where a next one waits, and with it
// all peers. What is parked after that is answered from the journal by the next one.
constexpr milliseconds hand_over_timeout{100};
// How long the broker lives on for what helpers have begun when it handed over.
constexpr std::chrono::seconds finish_timeout{60};

}  // namespace

void Broker::retire(milliseconds timeout) {
    const auto end_by = Clock::now() + timeout;
    if (phase_ == Phase::finishing) {
        end_by_ = std::min(end_by_, end_by);
        return;
    }
    phase_ = Phase::retiring;
    end_by_ = end_by;
    for (auto& [token, session] : sessions_) session->retire();
}

void Broker::tell_use(const Session& session) {
    const SessionUse& use = session.use();
    static_cast<void>(start_.link.send({.type = LinkType::note,
                                        .keep = static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                            use.refused(), std::numeric_limits<std::uint32_t>::max())),
                                        .token = session.token(),
                                        .note = use.requests()}));
}

void Broker::hand_over() {
    phase_ = Phase::handing_over;
    service_.control.hand_over();
    end_by_ = Clock::now() + hand_over_timeout;
    paused_.clear();
    resume_at_.reset();
    for (auto& [token, session] : sessions_) {
        tell_use(*session);
        if (session->state() == Session::State::writable) continue;
        loop_.remove(session->descriptor());
        turns_.remove(*session);
    }
}

Result<void> Broker::finish_for_helpers() {
    leave_sessions();
    if (auto finish = await_finish(); !finish) return finish;
    phase_ = Phase::finishing;
    end_by_ = Clock::now() + finish_timeout;
    return {};
}

// All but those of which helpers have requests. What is still parked the next generation answers from the journal.
void Broker::leave_sessions() {
    service_.audit.settle(Clock::time_point::max());
    // The requests that would commit them go to the next generation, which knows nothing of them.
    service_.helpers.end_puts();
    for (const Session* session : std::exchange(waiting_, {})) {
        loop_.remove(session->descriptor());
    }
    for (auto& [token, session] : sessions_) {
        turns_.remove(*session);
        session->hand_over();
    }
    std::erase_if(sessions_, [](const auto& entry) { return entry.second->tasks() == 0; });
    // That they have ended is on record: they are nobody's any more.
    for (const auto& session : lingering_) release(session->token());
    std::erase_if(lingering_, [](const auto& session) { return session->tasks() == 0; });
}

// The supervisor answers at once, and until then no record may be made.
Result<void> Broker::await_finish() {
    const auto records = static_cast<std::uint32_t>(service_.helpers.max_records());
    auto sent = start_.link.send({.type = LinkType::handed_over, .value = records});
    while (sent) {
        auto received = start_.link.receive();
        if (!received) return std::unexpected(received.error());
        if (*received && (*received)->message.type == LinkType::finish) {
            service_.audit.continue_with((*received)->message.value);
            return {};
        }
        pollfd readable{start_.link.descriptor().number(), POLLIN, 0};
        if (!*received && ::poll(&readable, 1, -1) < 0 && errno != EINTR) return proto::system_error("poll");
    }
    return sent;
}

}  // namespace fdbroker::opener
