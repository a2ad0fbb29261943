// SPDX-License-Identifier: MIT
// The supervisor's messages to a broker, and which the broker obeys in which phase.
#include <cstring>
#include <string>
#include <utility>

#include "opener/base/wait_status.hpp"
#include "opener/broker/broker.hpp"
#include "opener/control/server.hpp"
#include "opener/link/message_table.hpp"
#include "opener/quota/user_quota.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

Broker::LinkPhase Broker::link_phase() const noexcept {
    switch (phase_) {
        case Phase::serving:
            return activated_ ? LinkPhase::serving : LinkPhase::starting;
        case Phase::handing_over:
            return LinkPhase::handing_over;
        case Phase::draining:
            return LinkPhase::draining;
        case Phase::retiring:
            return LinkPhase::retiring;
    }
    return LinkPhase::starting;
}

void Broker::dispatch(GenerationLink::Received received, LinkPhase phase) {
    using namespace to_generation;
    using enum LinkPhase;
    static constexpr MessageTable table{
        on<GenerationLost>({starting, serving, retiring}, &Broker::answer_lost),
        on<GenerationDraining>({starting}, &Broker::take_left),
        on<Activate>({starting}, &Broker::activate),
        on<Adopt>({serving, retiring}, &Broker::adopt),
        on<AdoptControl>({serving, retiring}, &Broker::adopt_control),
        on<CommandAnswer>({serving, retiring}, &Broker::settle_command),
        on<MakeRoom>({serving, retiring}, &Broker::make_room_for_newcomer),
        on<Ping>({serving, retiring, handing_over}, &Broker::answer_ping),
        on<ConnectionsRejected>({serving, retiring}, &Broker::record_rejected),
        on<ConnectionsWait>({serving, retiring}, &Broker::record_wait),
        on<ReloadFailed>({serving, retiring, handing_over}, &Broker::record_failed_reload),
        on<HandOver>({serving, retiring}, &Broker::hand_over),
        on<Finish>({handed_over}, &Broker::finish),
        on<Retire>({serving, retiring, draining}, &Broker::retire),
    };
    table.dispatch(received.message, std::move(received.attached), phase, *this);
}

Result<void> Broker::serve_link() {
    for (;;) {
        auto received = start_.link.receive();
        if (!received) return std::unexpected(received.error());
        if (!*received) return {};
        dispatch(std::move(**received), link_phase());
    }
}

void Broker::take_left(const to_generation::GenerationDraining& message) {
    service_.orphaned_requests.take_left(message.number, lost_);
}

void Broker::adopt_control(const to_generation::AdoptControl& message, UniqueFd socket) {
    service_.control.adopt(message.connection_id, std::move(socket), message.note);
}

void Broker::settle_command(const to_generation::CommandAnswer& message, UniqueFd said) {
    service_.control.settle(message.connection_id, message.result, std::move(said));
}

void Broker::answer_ping(const to_generation::Ping& message) {
    static_cast<void>(start_.link.send(to_supervisor::Pong{message.number}));
}

void Broker::record_rejected(const to_generation::ConnectionsRejected& message) {
    if (message.listener >= start_.listeners.size()) return;
    policy::PeerIdentity identity;
    identity.listener = start_.listeners[message.listener].name;
    identity.uid = message.uid;
    identity.gid = message.gid;
    // The user has connections, or there would not be too many.
    for (const auto& [connection_id, session] : sessions_)
        if (session->peer().uid == identity.uid) identity.user = session->peer().user;
    const std::string peer = audit_peer(identity, message.pid, {});
    service_.audit.session_refused(
        {.event = "session-refused", .peer = peer, .cause = too_many_of_user, .count = message.count},
        Clock::now());
}

void Broker::record_wait(const to_generation::ConnectionsWait& message) {
    service_.audit.event({.event = "connections-wait",
                          .cause = message.errno_value == 0 ? "there are as many connections as may be in all"
                                                            : std::strerror(message.errno_value),
                          .count = message.count});
}

void Broker::record_failed_reload(const to_generation::ReloadFailed& message) {
    service_.audit.event({.event = "reload-failed",
                          .cause = "the new generation " + describe_end(message.wait_status) +
                                   "; the policy stays as it was"});
}

}  // namespace fdbroker::opener
