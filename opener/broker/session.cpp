// SPDX-License-Identifier: MIT
#include "opener/broker/session.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <utility>

#include "opener/base/send_end.hpp"
#include "opener/operations/batch.hpp"
#include "opener/request/call_table.hpp"
#include "opener/request/decide.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using proto::ErrorKind;
using proto::MessageType;
using proto::Step;

namespace {

// As it was asked for; a path that no request could have is none.
std::string_view new_path_of(const proto::Request& request) noexcept {
    if (row_of(request.call).asks != Asks::two_names) return {};
    const std::string_view path = proto::read_text(request.payload);
    return path.size() <= proto::max_path_length ? path : std::string_view();
}

// Later it may go: the peer must read, or others must, whose unread descriptors the kernel counts together with these.
bool must_wait(const proto::Error& error) noexcept {
    return error.kind == ErrorKind::system &&
           (error.errno_value == EAGAIN || error.errno_value == ETOOMANYREFS);
}

}  // namespace

Session::Session(Service& service, ConnectionId connection_id, proto::UniqueFd socket, IdentifiedPeer peer)
    : service_(service),
      connection_id_(connection_id),
      socket_(std::move(socket)),
      peer_(service.request_services.policy.identify(std::move(peer.identity))),
      pid_(peer.pid),
      quota_(service.quotas.of(peer_.identity().uid)),
      audit_(connection_id,
             audit_peer(peer_.identity(), peer.pid, peer_.role_names(service.request_services.policy)),
             quota_) {
    service_.quotas.session_began(quota_);
    identify_for_shadow();
}

void Session::record_start() {
    service_.audit.session_event(audit_, "session-start", "", std::chrono::steady_clock::now());
}

// ---- receive -------------------------------------------------------------------------------------------

Session::State Session::serve() {
    // A peer that waits for each reply must have it at once. A peer that has sent more meanwhile is served faster with
    // several replies in one message. Gathering now and then tells them apart; it costs the first sort a receive in vain.
    const bool gather = pipelines_ || ++turns_ % 16 == 0;
    std::size_t messages = 0;
    answered_ = 0;
    while (answered_ < requests_per_turn) {
        if (!may_be_read()) {
            if (send_replies()) state_ = State::writable;
            break;
        }
        if (must_pause()) {
            if (send_replies()) state_ = State::paused;
            break;
        }
        // Once more without waiting, even after a reply: a peer on the same CPU has often run by now, and this is
        // cheaper than going through epoll.
        auto message = proto::receive(socket_.borrow(), service_.inflight.begin_intake(connection_id_),
                                      proto::Wait::never);
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

bool Session::has_unread() const noexcept {
    int bytes = 0;
    // unix(7): what the other end has not received yet, as the kernel accounts for it. While a message is being taken off
    // the queue a byte or two may linger; a message is hundreds.
    return ::ioctl(socket_.number(), SIOCOUTQ, &bytes) != 0 || bytes > 64;
}

bool Session::peer_has_read() {
    if (has_unread()) return false;
    service_.quotas.taken(quota_, std::exchange(unread_, 0));
    return true;
}

std::size_t Session::unread_descriptors() {
    if (unread_ != 0) peer_has_read();
    return unread_;
}

bool Session::may_be_read() {
    if (unread_ <= max_unread_descriptors && service_.quotas.may_send_more(quota_)) return true;
    return peer_has_read() && service_.quotas.may_send_more(quota_);
}

bool Session::must_pause() const noexcept {
    // The clock is read only where the last message is no proof.
    return quota_.paused_until() > received_at_ && quota_.paused_until() > std::chrono::steady_clock::now();
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
    if (quota_.limits_requests()) quota_.use_requests(1, received_at_);
    std::array<std::byte, 64> reply;
    const std::size_t size = proto::write_hello_reply(
        reply, {.calls = served_calls | (service_.busy_wait.is_off() ? proto::no_busy_poll : 0)});
    auto sent = proto::send(socket_.borrow(), std::span(reply).first(size), {}, proto::Wait::never);
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
    if (quota_.limits_requests()) quota_.use_requests(requests->size(), received_at_);
    service_.busy_wait.asked(proto::read_header(message)->cpu);
    // A message of replies holds as many as a message of requests, each with the longest reason; and so does an entry.
    const std::size_t noted = entry_ == nullptr ? 0 : entry_->count.load(std::memory_order_relaxed);
    const bool fits = (noted + requests->size() <= proto::max_requests &&
                       service_.delivery.has_room_for(requests->size())) ||
                      send_replies();
    if (!fits && parked_.empty()) return false;
    if (entry_ == nullptr) entry_ = service_.inflight.acquire(connection_id_);
    if (entry_ == nullptr) std::abort();  // the broker keeps fewer replies parked than there are entries
    for (const proto::Request& request : *requests) InflightLog::note(*entry_, request.id);
    service_.inflight.end_intake(message.size());
    if (!fits) {
        // The message has left the socket, so it waits here.
        deferred_.assign(message.begin(), message.end());
        return false;
    }
    answer_all(message, *requests);
    return true;
}

void Session::answer_all(std::span<const std::byte> message, std::span<const proto::Request> requests) {
    if (batch_of(message) == proto::Batch::all_or_nothing) return answer_together(requests);
    for (std::size_t left = requests.size(); const proto::Request& request : requests)
        answer(request, --left);
}

void Session::answer_together(std::span<const proto::Request> requests) {
    service_.request_services.metrics.begin();
    answered_ += requests.size();
    auto outcomes =
        carry_out_together(service_.request_services, peer_, requests,
                           service_.delivery.payload_room(requests.size() - 1), ExecutionContext::loop());
    if (need_helper(outcomes) && hand_to_helper_together(requests, outcomes))
        return service_.request_services.metrics.end();
    const auto now = std::chrono::steady_clock::now();
    std::vector<DecisionRecord> records;
    for (std::size_t index = 0; index < requests.size(); ++index)
        records.push_back(record_of(requests[index], outcomes[index], now - received_at_));
    const std::vector<Recorded> recorded = record_together(records, now);
    for (std::size_t index = 0; index < requests.size(); ++index)
        service_.delivery.add(requests[index].id, std::move(outcomes[index]), recorded[index]);
}

// Answers the requests noted when the message was deferred.
void Session::answer_deferred() {
    if (deferred_.empty()) return;
    const std::vector<std::byte> message = std::exchange(deferred_, {});
    const auto requests = proto::read_requests(message, service_.requests);
    if (!requests) std::abort();  // the message was read when it came
    // How long the peer left its replies unread is not held against what it asked for.
    received_at_ = std::chrono::steady_clock::now();
    answer_all(message, *requests);
    send_replies();
}

// ---- decide, resolve, inspect --------------------------------------------------------------------------

Outcome Session::carry_out(const proto::Request& request, std::size_t others) {
    auto granted = decide(service_.request_services, peer_, request);
    if (!granted) return std::move(granted.error());
    granted->payload_room = service_.delivery.payload_room(others);
    if (const std::uint64_t continued = continued_by(request); continued != 0)
        return hand_to_helper(*granted, continued);
    Outcome outcome = execute(service_.request_services, peer_, *granted, ExecutionContext::loop());
    if (outcome.needs_helper()) outcome = hand_to_helper(*granted, 0);
    return outcome;
}

// ---- record, deliver -----------------------------------------------------------------------------------

void Session::answer(const proto::Request& request, std::size_t others) {
    service_.request_services.metrics.begin();
    ++answered_;
    Outcome outcome = carry_out(request, others);
    if (outcome.needs_helper()) return service_.request_services.metrics.end();
    const Recorded recorded = record(request, outcome, received_at_);
    service_.request_services.metrics.done(Step::record);
    service_.delivery.add(request.id, std::move(outcome), recorded);
}

DecisionRecord Session::record_of(const proto::Request& request, const Outcome& outcome,
                                  std::chrono::nanoseconds duration) {
    return {
        .duration = duration,
        .request = request.id,
        .call = request.call,
        .operations = outcome.operations,
        .path = request.path,
        .final_path = outcome.final_path,
        .new_path = new_path_of(request),
        .rule = outcome.rule,
        .errno_value = outcome.errno_value,
        .step = outcome.recorded_step,
        .reason = outcome.recorded_reason(),
    };
}

Recorded Session::record(const proto::Request& request, const Outcome& outcome,
                         std::chrono::steady_clock::time_point received_at) {
    const auto now = std::chrono::steady_clock::now();
    DecisionRecord record = record_of(request, outcome, now - received_at);
    const Recorded recorded = service_.audit.decision(audit_, record, now);
    count(record, recorded, now);
    return recorded;
}

std::vector<Recorded> Session::record_together(std::span<DecisionRecord> records,
                                               std::chrono::steady_clock::time_point now) {
    const bool granted =
        std::ranges::all_of(records, [](const DecisionRecord& record) { return record.errno_value == 0; });
    Recorded recorded;
    if (granted) recorded = service_.audit.grants_together(audit_, records, now);
    std::vector<Recorded> all;
    for (DecisionRecord& record : records) {
        if (!granted) recorded = service_.audit.decision(audit_, record, now);
        count(record, recorded, now);
        all.push_back(recorded);
        if (granted && recorded.sequence != 0) ++recorded.sequence;
    }
    return all;
}

// Tells the outcome of a request to those who look on; none of it matters to the peer.
void Session::count(DecisionRecord& record, const Recorded& recorded,
                    std::chrono::steady_clock::time_point now) {
    if (!recorded.may_leave) {
        record.errno_value = EIO;
        record.step = Step::record;
        record.reason = "the decision could not be put on record";
    }
    service_.request_services.metrics.count(record, now);
    use_.count(record.rule, record.errno_value == 0, record.path, now);
    if (shadow_peer_) compare_with_shadow(record, now);
    if (!service_.control.is_watched()) return;
    record.head = service_.audit.head(recorded.sequence);
    record.session = connection_id_;
    record.peer = audit_.peer;
    service_.control.publish(record, pid_, peer_.identity());
}

SessionFacts Session::facts() const {
    return {.connection_id = connection_id_,
            .pid = pid_,
            .identity = &peer_.identity(),
            .roles = peer_.role_names(service_.request_services.policy),
            .use = &use_,
            .unread_descriptors = unread_};
}

bool Session::send_replies() {
    if (service_.delivery.empty()) {
        release_entry();
        return true;
    }
    auto sent = service_.delivery.send(socket_.borrow());
    service_.request_services.metrics.done(Step::deliver);
    service_.request_services.metrics.end();
    if (sent) {
        count_unread(service_.delivery.descriptor_count());
        service_.delivery.clear();
        release_entry();
        return true;
    }
    if (must_wait(sent.error())) {
        parked_.push_back(service_.delivery.park(std::exchange(entry_, nullptr)));
        state_ = State::writable;
    } else {
        service_.delivery.clear();
        finish(sent.error().kind == ErrorKind::disconnected ? "the peer closed the connection"
                                                            : sent.error().message());
    }
    return false;
}

void Session::count_unread(std::size_t descriptors) noexcept {
    unread_ += descriptors;
    service_.quotas.sent(quota_, descriptors);
}

Session::State Session::flush() {
    const bool had_parked = !parked_.empty();
    for (; !parked_.empty(); parked_.pop_front()) {
        const ParkedReplies& replies = parked_.front();
        auto sent = opener::send(socket_.borrow(), replies);
        if (!sent) {
            if (!must_wait(sent.error())) finish("the peer closed the connection");
            return state_;
        }
        count_unread(replies.files.size());
        if (replies.entry != nullptr) InflightLog::release(*replies.entry);
    }
    if (had_parked) answer_deferred();
    if (parked_.empty() && state_ != State::ended) answer_owed();
    if (state_ != State::writable || !parked_.empty()) return state_;
    if (may_be_read()) state_ = State::readable;
    return state_;
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
        entry_ = service_.inflight.acquire(connection_id_);
        if (entry_ == nullptr) std::abort();
        for (std::size_t room = proto::max_requests; room > 0 && !owed_.empty(); --room) {
            const std::uint32_t id = owed_.back();
            owed_.pop_back();
            InflightLog::note(*entry_, id);
            service_.delivery.add_refusal(
                id, 0, EIO, Step::deliver,
                "the broker failed while it worked on this request; what came of it is unknown");
        }
        if (!send_replies()) return;
    }
}

// ---- the end -------------------------------------------------------------------------------------------

Session::~Session() {
    service_.quotas.taken(quota_, unread_);
    service_.quotas.session_ended(quota_);
}

void Session::retire() {
    retiring_ = true;
    // Messages already sent stay readable; the peer's further sends fail with EPIPE.
    ::shutdown(socket_.number(), SHUT_RD);
}

void Session::hand_over() noexcept {
    handed_over_ = true;
    parked_.clear();
    owed_.clear();
    deferred_.clear();
    entry_ = nullptr;
    if (state_ != State::ended) state_ = State::readable;
}

void Session::end(int errno_value, std::string_view cause) {
    service_.delivery.clear();
    // A courtesy to whoever debugs the peer.
    send_end(socket_.borrow(), errno_value, cause);
    finish(cause);
}

void Session::finish(std::string_view cause) {
    // The supervisor holds a duplicate, so closing alone would not tell the peer.
    ::shutdown(socket_.number(), SHUT_RDWR);
    if (!handed_over_)
        service_.audit.session_event(audit_, "session-end", cause, std::chrono::steady_clock::now());
    for (const ParkedReplies& replies : parked_) {
        if (replies.entry != nullptr) InflightLog::release(*replies.entry);
    }
    parked_.clear();
    release_entry();
    state_ = State::ended;
}

void Session::release_entry() noexcept {
    if (entry_ != nullptr) InflightLog::release(*std::exchange(entry_, nullptr));
}

}  // namespace fdbroker::opener
