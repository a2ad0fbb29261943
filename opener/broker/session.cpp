// SPDX-License-Identifier: MIT
#include "opener/broker/session.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "opener/base/send_end.hpp"
#include "opener/operations/execute.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

using proto::ErrorKind;
using proto::MessageType;
using proto::Step;

Session::Session(Service& service, ConnectionId connection_id, proto::UniqueFd socket, IdentifiedPeer peer)
    : service_(service),
      peer_(service.request_services.policy.identify(std::move(peer.identity))),
      connection_(service, connection_id, std::move(socket), service.quotas.of(peer_.identity().uid)),
      recorder_(service, connection_, peer_, peer.pid),
      helpers_(service, *this, connection_, peer_, recorder_),
      processor_(service, peer_, recorder_, helpers_) {}

SessionFacts Session::facts() const {
    return {.connection_id = connection_.id(),
            .pid = recorder_.pid(),
            .identity = &peer_.identity(),
            .roles = peer_.role_names(service_.request_services.policy),
            .use = &use(),
            .unread_descriptors = connection_.unread_at_most()};
}

// ---- receive -------------------------------------------------------------------------------------------

Session::State Session::serve() {
    // A peer that waits for each reply must have it at once. A peer that has sent more meanwhile is served faster with
    // several replies in one message. Gathering now and then tells them apart; it costs the first sort a receive in vain.
    const bool gather = pipelines_ || ++turns_ % 16 == 0;
    std::size_t messages = 0;
    answered_ = 0;
    while (answered_ < requests_per_turn) {
        if (!connection_.may_be_sent_more()) {
            if (send_replies()) state_ = State::writable;
            break;
        }
        if (must_pause()) {
            if (send_replies()) state_ = State::paused;
            break;
        }
        // Once more without waiting, even after a reply: a peer on the same CPU has often run by now, and this is
        // cheaper than going through epoll.
        auto message = connection_.receive();
        if (!message) {
            const bool nothing_there = would_block(message.error());
            service_.inflight.end_intake(nothing_there ? 0 : proto::max_message_size);
            if (!nothing_there) receive_failed(message.error());
            break;
        }
        ++messages;
        received_at_ = std::chrono::steady_clock::now();
        const bool goes_on = handle(*message);
        service_.inflight.end_intake(message->size());
        if (!goes_on || (!gather && !send_replies())) break;
    }
    if (gather) pipelines_ = messages > 1;
    if (state_ == State::readable) send_replies();
    return state_;
}

bool Session::must_pause() const noexcept {
    // The clock is read only where the last message is no proof.
    return paused_until() > received_at_ && paused_until() > std::chrono::steady_clock::now();
}

void Session::receive_failed(const proto::Error& error) {
    if (error.kind != ErrorKind::disconnected) {
        end(EPROTO, error.message());
    } else if (send_replies()) {
        drain_or_finish(retiring_ ? "the opener stops" : "the peer closed the connection");
    }
}

// ---- parse ---------------------------------------------------------------------------------------------

bool Session::handle(std::span<const std::byte> message) {
    const auto header = proto::read_header(message);
    if (!header) {
        end(header.error() == proto::MessageError::bad_version ? EPROTONOSUPPORT : EPROTO,
            proto::to_string(header.error()));
        return false;
    }
    switch (header->type) {
        case MessageType::requests:
            return handle_requests(message);
        case MessageType::hello:
            return handle_hello(message);
        default:
            end(EPROTO, "a message that only the opener sends");
            return false;
    }
}

bool Session::handle_hello(std::span<const std::byte> message) {
    if (const auto hello = proto::read_hello(message); !hello) {
        end(EPROTO, proto::to_string(hello.error()));
        return false;
    }
    if (!send_replies()) return false;
    ++answered_;
    if (quota().limits_requests()) quota().use_requests(1, received_at_);
    std::array<std::byte, 64> reply;
    const std::size_t size = proto::write_hello_reply(
        reply, {.calls = served_calls | (service_.busy_wait.is_off() ? proto::no_busy_poll : 0)});
    auto sent = proto::send(descriptor(), std::span(reply).first(size), {}, proto::Wait::never);
    // A peer that lets its replies pile up has no use for another hello.
    if (!sent) finish("the peer does not read");
    return sent.has_value();
}

bool Session::handle_requests(std::span<const std::byte> message) {
    const auto requests = proto::read_requests(message, service_.requests);
    if (!requests) {
        end(EPROTO, proto::to_string(requests.error()));
        return false;
    }
    if (quota().limits_requests()) quota().use_requests(requests->size(), received_at_);
    service_.busy_wait.asked(proto::read_header(message)->cpu);
    const bool fits = connection_.fits(requests->size()) || send_replies();
    if (!fits && !connection_.has_parked()) return false;
    for (const proto::Request& request : *requests) connection_.note(request.id);
    service_.inflight.end_intake(message.size());
    if (!fits) {
        // The message has left the socket, so it waits here.
        deferred_.assign(message.begin(), message.end());
        return false;
    }
    answered_ += requests->size();
    processor_.process(message, *requests, received_at_);
    return true;
}

// ---- deliver -------------------------------------------------------------------------------------------

bool Session::send_replies() {
    if (service_.delivery.empty()) {
        connection_.release_entry();
        return true;
    }
    const auto sent = connection_.send();
    if (!sent)
        finish(sent.error().kind == ErrorKind::disconnected ? "the peer closed the connection"
                                                            : sent.error().message());
    if (connection_.has_parked()) state_ = State::writable;
    return sent && !connection_.has_parked();
}

Session::State Session::flush() {
    const bool had_parked = connection_.has_parked();
    if (!connection_.flush()) {
        finish("the peer closed the connection");
        return state_;
    }
    if (connection_.has_parked()) return state_;
    if (had_parked) answer_deferred();
    if (!connection_.has_parked() && state_ != State::ended) answer_owed();
    if (state_ != State::writable || connection_.has_parked()) return state_;
    if (connection_.may_be_sent_more()) state_ = State::readable;
    return state_;
}

// Answers the requests noted when the message was deferred.
void Session::answer_deferred() {
    if (deferred_.empty()) return;
    const std::vector<std::byte> message = std::exchange(deferred_, {});
    const auto requests = proto::read_requests(message, service_.requests);
    if (!requests) std::abort();  // the message was read when it came
    // How long the peer left its replies unread is not held against what it asked for.
    received_at_ = std::chrono::steady_clock::now();
    processor_.process(message, *requests, received_at_);
    send_replies();
}

Session::State Session::answer_lost(std::span<const std::uint32_t> ids, std::span<const std::byte> message) {
    if (ids.size() > max_lost) {
        end(EIO, "more requests were lost than a session can have under way");
        return state_;
    }
    owed_.insert(owed_.end(), ids.begin(), ids.end());
    // Waiting replies have an entry in the in-flight log already; flush() goes on with these.
    if (state_ != State::writable) answer_owed();
    if (!message.empty() && state_ == State::readable) handle(message);
    return state_;
}

void Session::answer_owed() {
    while (!owed_.empty()) {
        for (std::size_t room = proto::max_requests; room > 0 && !owed_.empty(); --room) {
            const std::uint32_t id = owed_.back();
            owed_.pop_back();
            connection_.note(id);
            service_.delivery.add_refusal(
                id, 0, EIO, Step::deliver,
                "the broker failed while it worked on this request; what came of it is unknown");
        }
        if (!send_replies()) return;
    }
}

// ---- helpers -------------------------------------------------------------------------------------------

Session::State Session::task_delivered(const Sent& sent) {
    helpers_.delivered();
    connection_.count_unread(sent.descriptors);
    if (state_ == State::ended) return state_;
    if (sent.errno_value == EPIPE || sent.errno_value == ECONNRESET) {
        finish("the peer closed the connection");
    } else if (sent.errno_value != 0) {
        end(ETIMEDOUT, "the peer does not read its replies");
    }
    finish_if_drained();
    return state_;
}

Session::State Session::task_failed(const HelperTask& task, int errno_value, std::string_view reason) {
    helpers_.failed(task, errno_value, reason, state_ == State::ended);
    if (state_ == State::writable) {
        connection_.park();
    } else if (state_ != State::ended) {
        send_replies();
    }
    finish_if_drained();
    return state_;
}

// The peer sends nothing more. One that has only shut down its sending waits for what helpers still answer.
void Session::drain_or_finish(std::string_view cause) {
    if (!helpers_.has_tasks_anywhere() || connection_.has_hung_up()) return finish(cause);
    end_cause_ = cause;
    state_ = State::draining;
}

void Session::finish_if_drained() {
    if (state_ == State::draining && !helpers_.has_tasks_anywhere()) finish(end_cause_);
}

Session::State Session::drain() {
    finish_if_drained();
    return state_;
}

// ---- the end -------------------------------------------------------------------------------------------

void Session::retire() {
    retiring_ = true;
    connection_.receive_no_more();
}

void Session::hand_over() noexcept {
    handed_over_ = true;
    connection_.hand_over();
    owed_.clear();
    deferred_.clear();
    if (state_ != State::ended) state_ = State::readable;
}

void Session::end(int errno_value, std::string_view cause) {
    service_.delivery.clear();
    // A courtesy to whoever debugs the peer.
    send_end(descriptor(), errno_value, cause);
    finish(cause);
}

void Session::finish(std::string_view cause) {
    connection_.close();
    if (!handed_over_) recorder_.record_event("session-end", cause);
    state_ = State::ended;
}

}  // namespace fdbroker::opener
