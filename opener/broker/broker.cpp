// SPDX-License-Identifier: MIT
#include "opener/broker/broker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "opener/base/send_end.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/control/server.hpp"
#include "opener/quota/user_quota.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;
using std::chrono::milliseconds;

namespace {

// How long helpers that stay with a stream may take to end it when the generation has to end.
constexpr milliseconds last_words{500};
// Sessions that wait for something no event tells are looked at again after the first, and after at most the second time.
constexpr milliseconds first_look{10};
constexpr Backoff looks{first_look, milliseconds(160)};

}  // namespace

void Broker::activate() {
    activated_ = true;
    service_.audit.start(start_.cause);
}

// A generation that died draining: this one has the sessions already.
void Broker::answer_lost(const to_generation::GenerationLost& message) {
    if (!activated_) return service_.orphaned_requests.take_lost(message.number, lost_);
    OrphanedRequests::LostRequests lost;
    service_.orphaned_requests.take_lost(message.number, lost);
    for (const auto& [connection_id, requests] : lost) {
        const auto found = sessions_.find(connection_id);
        if (found == sessions_.end()) continue;
        make_room_for_waiting();
        // Making room may have ended it.
        if (!sessions_.contains(connection_id)) continue;
        Session& session = *found->second;
        const Session::State before = session.state();
        follow(session, before, session.answer_lost(requests.ids, requests.message));
    }
}

Broker::Broker(const GenerationStart& start, Service& service, const RefusedPeers& refused, EventLoop& loop)
    : start_(start),
      service_(service),
      refused_(refused),
      loop_(loop),
      resume_(loop.timer([this](Clock::time_point now) { resume_paused(now); })),
      look_again_(loop.timer([this](Clock::time_point) { look_again(); })),
      look_delay_(looks),
      phase_end_(loop.timer([this](Clock::time_point) { end_phase(); })) {
    service.helpers.set_owner(*this);
}

Result<void> Broker::run() {
    const policy::Policy& policy = service_.request_services.policy;
    const auto link = loop_.watch(start_.link.descriptor(), Events::readable, [this](Events) {
        if (auto alive = serve_link(); !alive) link_error_ = alive.error();
    });
    if (!link) return std::unexpected(link.error());
    const to_supervisor::Ready ready{.connections_per_uid = policy.limits().connections,
                                     .connections_total = policy.limits().connections_total,
                                     .audit_max_size = policy.audit().max_size,
                                     .audit_keep = policy.audit().keep};
    if (auto sent = start_.link.send(ready); !sent) return sent;
    while (!finished() && !ended_) {
        await_events();
        if (link_error_) return std::unexpected(*link_error_);
        serve_turns();
        loop_.run_timers();
        service_.control.flush_watchers();
        if (!has_handed_over()) continue;
        if (!service_.helpers.has_work()) break;
        if (auto drained = drain_helpers(); !drained) return drained;
    }
    service_.audit.settle(Clock::time_point::max());
    return {};
}

void Broker::await_events() {
    if (!round_robin_.empty()) {
        loop_.wait(EventLoop::Wait::never);
        return;
    }
    service_.busy_wait.wait([this] { return loop_.wait(EventLoop::Wait::never); },
                            [this] { loop_.wait(EventLoop::Wait::for_something); });
}

void Broker::serve_turns() {
    round_robin_.round([this] { make_room_for_waiting(); },
                       [this](Session& session) { return handle(session); });
}

// A broker that hands over goes on in run().
void Broker::end_phase() {
    if (phase_ == Phase::handing_over) return;
    service_.helpers.abandon(
        EIO, "the opener reloads or stops, and the filesystem did not answer; the outcome is unknown");
    // Bytes written to streams are in the pipes until the helpers have moved them.
    ended_ = !service_.helpers.end_background();
    phase_end_.set_after(last_words);
}

void Broker::adopt(const to_generation::Adopt& message, UniqueFd socket) {
    const ConnectionId connection_id = message.connection_id;
    // A connection that cannot be served is let go; the supervisor closes it.
    const auto let_go = [&] {
        ::shutdown(socket.number(), SHUT_RDWR);
        release(connection_id);
    };
    if (!socket || message.listener >= start_.listeners.size()) return let_go();
    auto peer = identify(socket.borrow(), start_.listeners[message.listener].name, message.names, refused_);
    if (!peer) {
        service_.audit.session_refused(
            {.event = "session-refused", .session = connection_id, .cause = peer.error().message()},
            Clock::now());
        send_end(socket.borrow(), peer.error().errno_value, peer.error().detail);
        if (peer.error().errno_value == EPERM) tell_uid_is_taken();
        return let_go();
    }
    service_.request_services.metrics.session_began();
    auto session = std::make_unique<Session>(service_, connection_id, std::move(socket), std::move(*peer));
    Session& added = *session;
    auto source = loop_.watch(added.descriptor(), Events::readable,
                              [this, &added](Events) { round_robin_.add(added); });
    if (!source) {
        added.end(source.error().errno_value, "the opener cannot watch another connection");
        release(connection_id);
        return;
    }
    added.source = std::move(*source);
    added.carry_on({.since = Clock::time_point(Clock::duration(message.since)),
                    .requests = message.requests,
                    .refused = message.refused});
    if (message.adoption == Adoption::first) added.record_start();
    sessions_.emplace(connection_id, std::move(session));
    if (auto lost = lost_.extract(connection_id)) {
        make_room_for_waiting();
        follow(added, Session::State::readable, added.answer_lost(lost.mapped().ids, lost.mapped().message));
    }
    if (phase_ == Phase::retiring) added.retire();
}

void Broker::tell_uid_is_taken() {
    if (std::exchange(told_uid_is_taken_, true)) return;
    static_cast<void>(start_.link.send(to_supervisor::UidTaken{*refused_.broker}));
}

// Returns how many requests it has answered.
std::size_t Broker::handle(Session& session) {
    // By what the session waits for, not by the event: a peer that hangs up is told of either way.
    const Session::State before = session.state();
    if (before == Session::State::paused) return 0;
    const Session::State after = before == Session::State::writable ? session.flush() : session.serve();
    const std::size_t answered = before == Session::State::writable ? 0 : session.answered();
    if (after == Session::State::readable && answered >= Session::requests_per_turn)
        round_robin_.add(session);
    follow(session, before, after);
    return answered;
}

// Keeps the events of the source in step with what the session waits for.
void Broker::follow(Session& session, Session::State before, Session::State after) {
    if (after == before) return;
    if (before == Session::State::writable) std::erase(waiting_, &session);
    if (before == Session::State::paused) std::erase(paused_, &session);
    if (after == Session::State::ended) return end_session(session);
    if (after == Session::State::paused) {
        ignore(session);
        paused_.push_back(&session);
        tell_slowed(session);
        return resume_.set_by(session.paused_until());
    }
    // The same goes for a peer that sends nothing more.
    if (after == Session::State::draining) {
        ignore(session);
        return look_again_soon();
    }
    // And for one that another generation reads.
    const bool reads = phase_ == Phase::serving || phase_ == Phase::retiring;
    if (!reads && after == Session::State::readable) return ignore(session);
    if (after == Session::State::writable) {
        waiting_.push_back(&session);
        session.waiting_since = Clock::now();
        look_again_soon();
    }
    // Edge-triggered: a socket with room tells so again each time the peer has read something.
    auto changed = session.source.set(after == Session::State::writable ? Events::writable | Events::edge
                                                                        : Events::readable);
    if (!changed) {
        session.end(changed.error().errno_value, "the opener cannot watch the connection");
        end_session(session);
    }
}

// Looks for changes that no event tells. A user's other sessions have been read; the kernel takes descriptors again; a peer
// has at last read the last replies of an ended session.
void Broker::look_again() {
    const auto draining = [this] {
        std::vector<Session*> found;
        for (const auto& [connection_id, session] : sessions_) {
            if (session->state() == Session::State::draining) found.push_back(session.get());
        }
        return found;
    };
    const std::vector<Session*> drained = draining();
    const std::size_t before = waiting_.size() + lingering_.size() + drained.size();
    for (const auto& [connection_id, session] : sessions_) session->unread_descriptors();
    const auto oldest = Clock::now() - service_.request_services.policy.limits().reply_timeout;
    for (Session* session : std::vector(waiting_)) {
        Session::State after = session->flush();
        // Not a session that waits for other sessions of the same user, or for other users.
        if (after == Session::State::writable && session->waiting_since < oldest && session->has_unread()) {
            session->end(ETIMEDOUT, "the peer does not read its replies");
            after = session->state();
        }
        follow(*session, Session::State::writable, after);
    }
    std::erase_if(lingering_, [this](const std::unique_ptr<Session>& session) {
        if (session->unread_descriptors() != 0 || session->tasks() != 0) return false;
        release(session->connection_id());
        return true;
    });
    // Peers that never read shall not keep a processor busy.
    for (Session* session : drained) follow(*session, Session::State::draining, session->drain());
    const std::size_t left = waiting_.size() + lingering_.size() + draining().size();
    if (left < before) look_delay_.reset();
    const milliseconds delay = look_delay_.next();
    look_again_.stop();
    if (left != 0) look_again_.set_after(delay);
}

// Until follow() or resume_paused() has it watched again.
void Broker::ignore(Session& session) {
    static_cast<void>(session.source.set(Events::none));
}

void Broker::look_again_soon() {
    look_delay_.reset();
    look_again_.set_after(look_delay_.next());
}

void Broker::resume_paused(Clock::time_point now) {
    std::erase_if(paused_, [this, now](Session* session) {
        if (session->paused_until() > now) {
            resume_.set_by(session->paused_until());
            return false;
        }
        if (auto watched = session->source.set(Events::readable); !watched) {
            resume_.set_by(now + first_look);
            return false;
        }
        session->resume();
        return true;
    });
}

// Descriptors that the peer has not taken stay on their way, and count, as long as it keeps its end open. Until then its
// connection counts as well, or a user could have any number of them on their way.
void Broker::end_session(Session& session) {
    std::erase(waiting_, &session);
    std::erase(paused_, &session);
    round_robin_.remove(session);
    session.source.end();
    service_.helpers.forget(session.connection_id());
    auto ended = sessions_.extract(session.connection_id());
    if (session.unread_descriptors() != 0 || session.tasks() != 0) {
        lingering_.push_back(std::move(ended.mapped()));
        look_again_soon();
    } else {
        release(session.connection_id());
    }
}

void Broker::release(ConnectionId connection_id) {
    // A connection that has been handed over is another generation's.
    if (phase_ == Phase::draining) return;
    static_cast<void>(start_.link.send(to_supervisor::Release{connection_id}));
}

std::vector<SessionFacts> Broker::sessions() const {
    std::vector<SessionFacts> all;
    all.reserve(sessions_.size());
    for (const auto& [connection_id, session] : sessions_) all.push_back(session->facts());
    std::ranges::sort(all, {}, &SessionFacts::connection_id);
    return all;
}

// ---- helpers -------------------------------------------------------------------------------------------

void Broker::delivered(HelperTask& task, const Sent& sent) {
    if (sent.errno_value == 0)
        service_.request_services.metrics.helper_delivered(task.received_at, task.given_at, task.reported_at,
                                                           Clock::now());
    const Session::State before = task.session->state();
    follow(*task.session, before, task.session->task_delivered(sent));
}

void Broker::failed(HelperTask& task, int errno_value, const char* reason) {
    const Session::State before = task.session->state();
    follow(*task.session, before, task.session->task_failed(task, errno_value, reason));
}

void Broker::record_for(std::uint32_t uid, const EventRecord& record) {
    service_.audit.event_of(service_.quotas.of(uid), record, Clock::now());
}

namespace {

const char* explain_end(int errno_value) {
    if (errno_value == ECANCELED) return "it rested, and another user needs the place";
    if (errno_value == ETIME)
        return "it was neither read nor written for as long as limits: stream_idle allows";
    return std::strerror(errno_value);
}

}  // namespace

void Broker::ended(const HeldUp& request, int errno_value) {
    if (errno_value == 0) return;
    record_for(request.uid,
               {.event = "transfer-failed",
                .path = request.path,
                .rule = request.rule,
                .cause = fmt::format("a stream, a put, a watch or a reply for uid {} ended early: {}",
                                     request.uid, explain_end(errno_value))});
}

void Broker::left_behind(const HeldUp& request, std::size_t stuck) {
    record_for(request.uid,
               {.event = "helper-stuck",
                .path = request.path,
                .rule = request.rule,
                .cause = fmt::format("a helper for uid {} has not come back from a filesystem; {} in all",
                                     request.uid, stuck)});
}

void Broker::came_back(std::uint32_t uid, std::size_t stuck) {
    record_for(
        uid, {.event = "helper-back",
              .cause = fmt::format("a helper for uid {} has come back or ended; {} are stuck", uid, stuck)});
}

void Broker::zygote_lost() {
    service_.audit.event({.event = "zygote-lost", .cause = "a process that makes helpers has ended"});
    if (phase_ != Phase::draining) static_cast<void>(start_.link.send(to_supervisor::Renew{}));
}

}  // namespace fdbroker::opener
