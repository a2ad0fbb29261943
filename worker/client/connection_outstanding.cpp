// The part of a connection that never waits in a call for one answer: requests that are submitted and completed.
#include <poll.h>

#include <cerrno>
#include <cstring>

#include "worker/client/connection.hpp"

namespace fdbroker::worker {

using proto::Wait;

namespace {

constexpr const char* overdue = "client: the broker did not answer in time";

}  // namespace

int Connection::submit(std::span<const Submission> submissions) {
    if (const int error = begin(); error < 0) return error;
    std::size_t taken = 0;
    while (taken < submissions.size() && !outstanding_.is_full())
        taken += submit_message(submissions.subspan(taken));
    if (!submissions.empty() && taken == 0) return refuse(EAGAIN, "too many requests are outstanding");
    const int error = send_unsent();
    if (serve_peer_) serve_peer_();
    update_wake();
    return error < 0 && !outstanding_.has_done() ? error : static_cast<int>(taken);
}

std::size_t Connection::submit_message(std::span<const Submission> submissions) {
    const std::size_t most = std::min({submissions.size(), max_requests_, outstanding_.room()});
    const std::uint32_t first_id = take_ids(most);
    proto::RequestWriter writer(std::span<std::byte>(out_).first(max_message_));
    std::size_t taken = 0;
    for (; taken < most; ++taken) {
        const Submission& one = submissions[taken];
        const std::uint32_t id = first_id + static_cast<std::uint32_t>(taken);
        std::size_t length = 0;
        int error = check(one.ask, length);
        if (error == 0 && !writer.add({.id = id,
                                       .call = one.ask.call,
                                       .flags = one.ask.flags,
                                       .mode = one.ask.mode,
                                       .path = {one.ask.path, length},
                                       .payload = one.ask.payload})) {
            if (writer.count() > 0) break;
            error = refuse(E2BIG, "the request does not fit a message");
        }
        outstanding_.add(id, one.ask.call, one.tag, deadline_in(one.timeout));
        if (error < 0) outstanding_.finish(id, {.result = error, .reason = reason()});
    }
    if (writer.count() > 0) {
        const auto message = writer.message();
        outstanding_.unsent().emplace_back(message.begin(), message.end());
    }
    return taken;
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

// One round: what can be done now, and a wait when that was nothing.
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
    auto& unsent = outstanding_.unsent();
    while (!unsent.empty()) {
        int error = send_now(unsent.front());
        if (error == -EAGAIN && serve_peer_) {
            serve_peer_();
            error = send_now(unsent.front());
        }
        if (error == -EAGAIN) return 0;
        if (error < 0) return error;
        unsent.pop_front();
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
    }
    return 0;
}

int Connection::take_outstanding(const proto::Reply& reply, proto::UniqueFd descriptor) {
    const auto call = outstanding_.call_of(reply.id);
    if (!call) return 0;
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

int Connection::descriptor() {
    reason_[0] = '\0';
    if (abandoned_) return refuse(EBADF, "the connection is the parent process's");
    const int wake = outstanding_.make_wake(socket_.borrow());
    return wake < 0 ? refuse(-wake, "no descriptor to wait for could be made") : wake;
}

}  // namespace fdbroker::worker
