// SPDX-License-Identifier: MIT
#include "opener/broker/broker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

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
// How long until the broker looks again at sessions that wait for something epoll does not tell, and how long at most when
// it was in vain again and again.
constexpr milliseconds first_look{10};
constexpr milliseconds last_look{160};

}  // namespace

void Broker::activate() {
    activated_ = true;
    service_.audit.start(start_.cause);
}

// Of one that died while it did no more than finish: its sessions are this one's already.
void Broker::answer_lost(std::uint32_t generation) {
    if (!activated_) return service_.predecessors.take_lost(generation, lost_);
    OrphanedRequests::LostRequests lost;
    service_.predecessors.take_lost(generation, lost);
    for (const auto& [token, requests] : lost) {
        const auto found = sessions_.find(token);
        if (found == sessions_.end()) continue;
        make_room_for_waiting();
        // Making room may have ended it.
        if (!sessions_.contains(token)) continue;
        Session& session = *found->second;
        const Session::State before = session.state();
        follow(session, before, session.answer_lost(requests.ids, requests.message));
    }
}

Result<void> Broker::run() {
    const policy::Policy& policy = service_.tools.policy;
    // The link is the one thing without a session, so its tag is null.
    if (auto added = loop_.add(start_.link.descriptor(), EPOLLIN, nullptr); !added) return added;
    if (auto added = loop_.add(service_.control.descriptor(), EPOLLIN, &service_.control); !added)
        return added;
    const LinkMessage ready{.type = LinkType::ready,
                            .value = policy.limits().connections,
                            .total = policy.limits().connections_total,
                            .keep = policy.audit().keep,
                            .token = policy.audit().max_size};
    if (auto sent = start_.link.send(ready); !sent) return sent;
    if (auto added = loop_.add(service_.helpers.descriptor(), EPOLLIN, &service_.helpers); !added)
        return added;
    while (!finished() && !ended_) {
        take_events();
        if (std::exchange(link_has_something_, false)) {
            auto alive = serve_link();
            if (!alive) return std::unexpected(alive.error());
        }
        serve_turns();
        if (std::exchange(helpers_have_something_, false)) service_.helpers.serve();
        if (std::exchange(control_has_something_, false)) service_.control.serve();
        service_.control.flush_watchers();
        act_on_time();
        if (!has_handed_over()) continue;
        if (!service_.helpers.has_work()) break;
        if (auto finishing = finish_for_helpers(); !finishing) return finishing;
    }
    service_.audit.settle(Clock::time_point::max());
    return {};
}

void Broker::take_events() {
    const auto events = loop_.wait(turns_.empty() ? patience() : 0);
    for (const epoll_event& event : events) {
        if (event.data.ptr == nullptr) {
            link_has_something_ = true;
        } else if (event.data.ptr == &service_.control) {
            control_has_something_ = true;
        } else if (event.data.ptr == &service_.helpers) {
            helpers_have_something_ = true;
        } else {
            turns_.add(*static_cast<Session*>(event.data.ptr));
        }
    }
}

void Broker::serve_turns() {
    turns_.round([this] { make_room_for_waiting(); }, [this](Session& session) { return handle(session); });
}

int Broker::patience() const noexcept {
    auto soonest = Clock::time_point::max();
    if (phase_ != Phase::serving) soonest = end_by_;
    for (const auto& when : {look_again_at_, resume_at_, service_.audit.settle_at(),
                             service_.control.again_at(), service_.helpers.due()})
        soonest = std::min(soonest, when.value_or(soonest));
    if (soonest == Clock::time_point::max()) return -1;
    const auto left = soonest - std::min(soonest, Clock::now());
    return static_cast<int>(std::chrono::ceil<milliseconds>(left).count());
}

void Broker::act_on_time() {
    HelperPool& helpers = service_.helpers;
    const auto control_at = service_.control.again_at();
    // Nothing here asks for the time while nothing waits for it.
    if (!look_again_at_ && !resume_at_ && !service_.audit.settle_at() && !control_at && !helpers.due() &&
        phase_ == Phase::serving)
        return;
    const auto now = Clock::now();
    if (look_again_at_ && now >= *look_again_at_) look_again();
    if (resume_at_ && now >= *resume_at_) resume_paused(now);
    if (service_.audit.settle_at() && now >= *service_.audit.settle_at()) service_.audit.settle(now);
    if (control_at && now >= *control_at) service_.control.serve();
    if (helpers.due()) helpers.act_on_time(now);
    if (phase_ == Phase::serving || phase_ == Phase::handing_over || now < end_by_) return;
    helpers.abandon(EIO,
                    "the opener reloads or stops, and the filesystem did not answer; the outcome is unknown");
    // What has been written to streams is in their pipes until their helpers have moved it.
    ended_ = !helpers.end_lasting();
    end_by_ = now + last_words;
}

Result<bool> Broker::serve_link() {
    for (;;) {
        auto received = start_.link.receive();
        if (!received) return std::unexpected(received.error());
        if (!*received) return true;
        const LinkMessage& message = (*received)->message;
        switch (message.type) {
            case LinkType::activate:
                activate();
                break;
            case LinkType::adopt:
                adopt(message, std::move((*received)->attached));
                break;
            case LinkType::adopt_control:
                service_.control.adopt(message.token, std::move((*received)->attached), message.note);
                break;
            case LinkType::result:
                service_.control.settle(message.token, static_cast<CommandResult>(message.value),
                                        std::move((*received)->attached));
                break;
            case LinkType::hand_over:
                hand_over();
                break;
            case LinkType::retire:
                retire(milliseconds(message.value));
                break;
            case LinkType::lost:
                answer_lost(message.value);
                break;
            case LinkType::left:
                service_.predecessors.take_left(message.value, lost_);
                break;
            case LinkType::not_reloaded:
                service_.audit.event({.event = "reload-failed",
                                      .cause = "the new generation " +
                                               describe_end(static_cast<int>(message.value)) +
                                               "; the policy stays as it was"});
                break;
            case LinkType::turned_away:
                record_turned_away(message);
                break;
            case LinkType::waiting:
                service_.audit.event({.event = "connections-wait",
                                      .cause = message.value == 0
                                                   ? "there are as many connections as may be in all"
                                                   : std::strerror(static_cast<int>(message.value)),
                                      .count = message.total});
                break;
            case LinkType::make_room:
                make_room_for_newcomer();
                break;
            case LinkType::ping:
                static_cast<void>(start_.link.send({.type = LinkType::pong, .token = message.token}));
                break;
            default:
                return proto::protocol_error("link", "a message that only a generation sends");
        }
    }
}

void Broker::record_turned_away(const LinkMessage& message) {
    if (message.value >= start_.listeners.size()) return;
    policy::PeerIdentity identity;
    identity.listener = start_.listeners[message.value].name;
    identity.uid = static_cast<std::uint32_t>(message.token);
    identity.gid = static_cast<std::uint32_t>(message.note);
    // Its user has connections, or there would not be too many.
    for (const auto& [token, session] : sessions_)
        if (session->peer().uid == identity.uid) identity.user = session->peer().user;
    const std::string peer = audit_peer(identity, static_cast<pid_t>(message.keep), {});
    service_.audit.session_refused(
        {.event = "session-refused", .peer = peer, .cause = too_many_of_user, .count = message.total},
        Clock::now());
}

void Broker::adopt(const LinkMessage& message, UniqueFd socket) {
    const ConnectionId token = message.token;
    // A connection that cannot be served is let go; the supervisor closes it.
    const auto let_go = [&] {
        ::shutdown(socket.number(), SHUT_RDWR);
        release(token);
    };
    if (!socket || message.value >= start_.listeners.size()) return let_go();
    auto peer = identify(socket.borrow(), start_.listeners[message.value].name, message.names, refused_);
    if (!peer) {
        service_.audit.session_refused(
            {.event = "session-refused", .session = token, .cause = peer.error().message()}, Clock::now());
        if (peer.error().errno_value == EPERM) tell_uid_is_taken();
        return let_go();
    }
    service_.tools.metrics.session_began();
    auto session = std::make_unique<Session>(service_, token, std::move(socket), std::move(*peer));
    if (auto added = loop_.add(session->descriptor(), EPOLLIN, session.get()); !added) {
        session->end(added.error().errno_value, "the opener cannot watch another connection");
        release(token);
        return;
    }
    Session& added = *session;
    added.carry_on({.since = Clock::time_point(Clock::duration(message.since)),
                    .requests = message.note,
                    .refused = message.keep});
    if (message.total != 0) added.record_start();
    sessions_.emplace(token, std::move(session));
    if (auto lost = lost_.extract(token)) {
        make_room_for_waiting();
        follow(added, Session::State::readable, added.answer_lost(lost.mapped().ids, lost.mapped().message));
    }
    if (phase_ == Phase::retiring) added.retire();
}

void Broker::tell_uid_is_taken() {
    if (std::exchange(told_uid_is_taken_, true)) return;
    static_cast<void>(start_.link.send({.type = LinkType::uid_taken, .value = *refused_.broker}));
}

// Returns how many requests it has answered.
std::size_t Broker::handle(Session& session) {
    // By what it waits for, not by what epoll tells: a peer that hangs up is told of either way.
    const Session::State before = session.state();
    if (before == Session::State::paused) return 0;
    const Session::State after = before == Session::State::writable ? session.flush() : session.serve();
    const std::size_t answered = before == Session::State::writable ? 0 : session.answered();
    if (after == Session::State::readable && answered >= Session::requests_per_turn) turns_.add(session);
    follow(session, before, after);
    return answered;
}

// Keeps what epoll waits for in step with what the session waits for.
void Broker::follow(Session& session, Session::State before, Session::State after) {
    if (after == before) return;
    if (before == Session::State::writable) std::erase(waiting_, &session);
    if (before == Session::State::paused) std::erase(paused_, &session);
    if (after == Session::State::ended) return end_session(session);
    if (after == Session::State::paused) {
        // Not with its events masked: epoll tells of a hang-up all the same, and would do so without end.
        loop_.remove(session.descriptor());
        paused_.push_back(&session);
        tell_slowed(session);
        resume_at_ = std::min(resume_at_.value_or(Clock::time_point::max()), session.paused_until());
        return;
    }
    // The same goes for a peer that sends nothing more.
    if (after == Session::State::draining) {
        loop_.remove(session.descriptor());
        return look_again_soon();
    }
    // And for one that another generation reads.
    const bool reads = phase_ == Phase::serving || phase_ == Phase::retiring;
    if (!reads && after == Session::State::readable) return loop_.remove(session.descriptor());
    if (after == Session::State::writable) {
        waiting_.push_back(&session);
        session.waiting_since = Clock::now();
        look_again_soon();
    }
    // Edge-triggered: a socket with room tells so again each time the peer has read something.
    std::uint32_t events =
        after == Session::State::writable ? std::uint32_t{EPOLLOUT} | EPOLLET : std::uint32_t{EPOLLIN};
    // One that was paused, drained or handed over has been taken out.
    auto changed = loop_.set(session.descriptor(), events, &session);
    if (!changed) {
        session.end(changed.error().errno_value, "the opener cannot watch the connection");
        end_session(session);
    }
}

// What epoll cannot tell: that a user's other sessions have been read, that the kernel takes descriptors again, that a
// peer has at last read what its ended session had sent.
void Broker::look_again() {
    const auto draining = [this] {
        std::vector<Session*> found;
        for (const auto& [token, session] : sessions_) {
            if (session->state() == Session::State::draining) found.push_back(session.get());
        }
        return found;
    };
    const std::vector<Session*> drained = draining();
    const std::size_t before = waiting_.size() + lingering_.size() + drained.size();
    for (const auto& [token, session] : sessions_) session->unread_descriptors();
    const auto oldest = Clock::now() - service_.tools.policy.limits().reply_timeout;
    for (Session* session : std::vector(waiting_)) {
        Session::State after = session->flush();
        // Not one that waits for other sessions of its user, or for other users.
        if (after == Session::State::writable && session->waiting_since < oldest && session->has_unread()) {
            session->end(ETIMEDOUT, "the peer does not read its replies");
            after = session->state();
        }
        follow(*session, Session::State::writable, after);
    }
    std::erase_if(lingering_, [this](const std::unique_ptr<Session>& session) {
        if (session->unread_descriptors() != 0 || session->tasks() != 0) return false;
        release(session->token());
        return true;
    });
    // Peers that never read shall not keep a processor busy.
    for (Session* session : drained) follow(*session, Session::State::draining, session->drain());
    const std::size_t left = waiting_.size() + lingering_.size() + draining().size();
    look_again_after_ = left < before ? first_look : std::min(2 * look_again_after_, last_look);
    look_again_at_.reset();
    if (left != 0) look_again_at_ = Clock::now() + look_again_after_;
}

void Broker::look_again_soon() {
    look_again_after_ = first_look;
    look_again_at_ = Clock::now() + look_again_after_;
}

void Broker::resume_paused(Clock::time_point now) {
    resume_at_.reset();
    std::erase_if(paused_, [this, now](Session* session) {
        if (session->paused_until() > now) {
            resume_at_ = std::min(resume_at_.value_or(Clock::time_point::max()), session->paused_until());
            return false;
        }
        if (auto added = loop_.add(session->descriptor(), EPOLLIN, session); !added) {
            resume_at_ = now + first_look;
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
    turns_.remove(session);
    loop_.remove(session.descriptor());
    service_.helpers.forget(session.token());
    auto ended = sessions_.extract(session.token());
    if (session.unread_descriptors() != 0 || session.tasks() != 0) {
        lingering_.push_back(std::move(ended.mapped()));
        look_again_soon();
    } else {
        release(session.token());
    }
}

void Broker::release(ConnectionId token) {
    // What has been handed over is another generation's.
    if (phase_ == Phase::finishing) return;
    static_cast<void>(start_.link.send({.type = LinkType::release, .token = token}));
}

std::vector<SessionFacts> Broker::sessions() const {
    std::vector<SessionFacts> all;
    all.reserve(sessions_.size());
    for (const auto& [token, session] : sessions_) all.push_back(session->facts());
    std::ranges::sort(all, {}, &SessionFacts::token);
    return all;
}

// ---- helpers -------------------------------------------------------------------------------------------

void Broker::delivered(HelperTask& task, const Sent& sent) {
    if (sent.errno_value == 0)
        service_.tools.metrics.helper_delivered(task.received_at, task.given_at, task.reported_at,
                                                Clock::now());
    const Session::State before = task.session->state();
    follow(*task.session, before, task.session->task_delivered(sent));
}

void Broker::failed(HelperTask& task, int errno_value, const char* reason) {
    const Session::State before = task.session->state();
    follow(*task.session, before, task.session->task_failed(task, errno_value, reason));
}

void Broker::record_for(std::uint32_t uid, const EventRecord& record) {
    service_.audit.event_of(service_.shares.of(uid), record, Clock::now());
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
    record_for(request.uid, {.event = "transfer-failed",
                             .path = request.path,
                             .rule = request.rule,
                             .cause = fmt::format("a stream, a put or a reply for uid {} ended early: {}",
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
    if (phase_ != Phase::finishing) static_cast<void>(start_.link.send({.type = LinkType::renew}));
}

}  // namespace fdbroker::opener
