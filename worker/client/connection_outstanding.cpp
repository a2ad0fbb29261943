// SPDX-License-Identifier: MIT
// The part of a connection that never waits in a call for one answer: requests that are submitted and completed.
#include <poll.h>

#include <cerrno>

#include "proto/payload.hpp"
#include "worker/client/connection.hpp"

namespace fdbroker::worker {

using proto::Wait;

namespace {

constexpr const char* overdue = "client: the broker did not answer in time";

}  // namespace

int Connection::submit(std::span<const Submission> submissions) {
    if (const int error = begin(); error < 0) return error;
    const bool others_wait = outstanding_.is_waiting();
    const std::size_t taken = std::min(submissions.size(), outstanding_.room());
    if (!submissions.empty() && taken == 0) return refuse(EAGAIN, "too many requests are outstanding");
    for (const Submission& submission : submissions.first(taken)) take(submission);
    // A message costs the broker more than a request does.
    const bool waits_for_company = others_wait && outstanding_.unsent_messages() <= 1;
    const int error = waits_for_company ? 0 : send_unsent();
    if (serve_peer_) serve_peer_();
    update_wake();
    return error < 0 && !outstanding_.has_done() ? error : static_cast<int>(taken);
}

void Connection::take(const Submission& submission) {
    const Ask& ask = submission.ask;
    const std::uint32_t id = take_ids(1);
    proto::Request request;
    int error = check(ask, request);
    request.id = id;
    if (error == 0 && !outstanding_.write(request, max_message_, max_requests_))
        error = refuse(E2BIG, "the request does not fit a message");
    const bool of_directory = ask.path != nullptr && names_directory(ask.path);
    outstanding_.add(id, ask.call, submission.tag, deadline_in(submission.timeout), of_directory);
    if (error < 0) outstanding_.finish(id, {.result = error, .reason = reason()});
}

int Connection::complete(std::size_t most, int timeout) {
    outstanding_.show(0);
    reason_[0] = '\0';
    if (abandoned_) return refuse(EBADF, "the connection is the parent process's");
    const Deadline deadline = deadline_in(timeout);
    while (socket_) {
        if (const int error = take_or_wait(deadline); error < 0) break;
        if (outstanding_.has_done() || !outstanding_.is_waiting()) break;
        if (has_passed(deadline)) break;
    }
    if (!socket_) {
        if (reason_[0] == '\0') refuse(ECONNRESET, "the connection is over");
        outstanding_.give_up(ECONNRESET, reason());
        if (!outstanding_.has_done()) return -ECONNRESET;
    }
    const std::size_t shown = outstanding_.show(most);
    update_wake();
    return static_cast<int>(shown);
}

// Runs a round: does everything possible now, and waits when that was nothing.
int Connection::take_or_wait(const Deadline& deadline) {
    if (const int error = send_unsent(); error < 0) return error;
    if (const int error = take_what_came(); error < 0) return error;
    outstanding_.expire(overdue);
    if (outstanding_.has_done() || !outstanding_.is_waiting()) return 0;
    Deadline next = outstanding_.earliest();
    if (deadline && (!next || *deadline < *next)) next = deadline;
    pollfd waited{.fd = socket_.number(), .events = POLLIN, .revents = 0};
    if (outstanding_.has_unsent()) waited.events |= POLLOUT;
    if (::poll(&waited, 1, milliseconds_until(next)) < 0 && errno != EINTR) return fail(errno, "poll failed");
    return 0;
}

int Connection::send_unsent() {
    while (outstanding_.has_unsent()) {
        int error = send_now(outstanding_.first_unsent());
        if (error == -EAGAIN && serve_peer_) {
            serve_peer_();
            error = send_now(outstanding_.first_unsent());
        }
        if (error == -EAGAIN) return 0;
        if (error < 0) return error;
        outstanding_.first_is_sent();
    }
    return 0;
}

int Connection::take_what_came() {
    // More cannot be waited for, and a broker that sends without end holds nobody up.
    for (std::size_t messages = 0; messages < Outstanding::most; ++messages) {
        if (serve_peer_) serve_peer_();
        const auto received =
            proto::receive(socket_.borrow(), in_, descriptors_, Wait::never, proto::FullTable::keep);
        if (!received) return would_block(received.error()) ? 0 : fail_with(received.error());
        Batch none;
        if (const int error = take_message(*received, none); error < 0) return error;
        if (!outstanding_.is_waiting()) break;
    }
    return 0;
}

int Connection::take_outstanding(const proto::Reply& reply, proto::UniqueFd descriptor) {
    const auto call = outstanding_.call_of(reply.id);
    if (!call) {
        discard_given_up(reply);
        return 0;
    }
    Completion completion{.payload = std::string(reply.payload)};
    const auto kept = reason_;
    const int result = result_of(reply, brings_file(*call), std::move(descriptor));
    if (!socket_) return result;
    if (result < 0) completion.reason = reason();
    reason_ = kept;
    if (brings_file(*call) && result >= 0)
        completion.file = proto::UniqueFd(result);
    else
        completion.result = result;
    outstanding_.finish(reply.id, std::move(completion));
    return 0;
}

// Else the broker keeps it, and counts it against the user, until the connection ends.
void Connection::discard_given_up(const proto::Reply& reply) {
    const auto path = outstanding_.take_given_up_put(reply.id);
    if (!path || reply.status != 0 || !proto::read_number(reply.payload)) return;
    const proto::Request request{
        .id = take_ids(1), .call = proto::Call::discard, .path = *path, .payload = reply.payload};
    static_cast<void>(outstanding_.write(request, max_message_, max_requests_));
}

int Connection::descriptor() {
    reason_[0] = '\0';
    if (abandoned_) return refuse(EBADF, "the connection is the parent process's");
    const int wake = outstanding_.make_wake(socket_.borrow());
    return wake < 0 ? refuse(-wake, "no descriptor to wait for could be made") : wake;
}

}  // namespace fdbroker::worker
