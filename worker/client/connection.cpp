#include "worker/client/connection.hpp"

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace fdbroker::worker {
namespace {

using proto::ErrorKind;
using proto::MessageType;
using proto::Reply;
using proto::UniqueFd;
using proto::Wait;

std::uint16_t current_cpu() {
    const int cpu = ::sched_getcpu();
    return cpu >= 0 && cpu < proto::unknown_cpu ? static_cast<std::uint16_t>(cpu) : proto::unknown_cpu;
}

// strerror() would need a lock, or a buffer of its own.
std::string_view words_for(int error) {
    const char* words = ::strerrordesc_np(error);
    return words != nullptr ? words : "unknown error";
}

}  // namespace

void Connection::abandon() noexcept {
    socket_.reset();
    abandoned_ = true;
}

int Connection::begin(Deadline& deadline) {
    reason_[0] = '\0';
    if (abandoned_) return refuse(EBADF, "the connection is the parent process's");
    if (!socket_) return refuse(ECONNRESET, "the connection is over");
    deadline.reset();
    if (timeout_ >= 0) deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_);
    return 0;
}

int Connection::greet() {
    Deadline deadline;
    if (const int error = begin(deadline); error < 0) return error;
    if (const int error = send(std::span(out_).first(proto::write_hello(out_)), deadline); error < 0)
        return error;
    std::span<const std::byte> message;
    if (const int error = receive(message, deadline); error < 0) return error;
    // Whoever does not speak our version says so in an `end` of his.
    const auto header = proto::read_header(message);
    if (!header && header.error() == proto::MessageError::bad_version)
        return fail(EPROTONOSUPPORT, "the broker speaks another version of the protocol");
    if (header && header->type == MessageType::end) {
        const auto told = proto::read_end(message);
        const int error = told ? told->errno_value : EPROTO;
        end(message);
        return -error;
    }
    const auto reply = proto::read_hello_reply(message);
    if (!reply || descriptors_.count() != 0) return fail(EPROTO, "the answer to hello is none");
    max_requests_ = reply->max_requests_per_message;
    max_message_ = reply->max_message;
    if ((reply->calls >> static_cast<unsigned>(proto::Call::open) & 1) == 0)
        return fail(EPROTONOSUPPORT, "the broker does not serve open");
    return 0;
}

int Connection::open(const fdbroker_request& request) {
    Deadline deadline;
    if (const int error = begin(deadline); error < 0) return error;
    int result = -1;
    const int error = exchange({&request, 1}, {&result, 1}, deadline);
    if (error >= 0) return result;
    const UniqueFd closed(result);
    return error;
}

int Connection::open_many(std::span<const fdbroker_request> requests, int* fds) {
    Deadline deadline;
    const std::span<int> results(fds, requests.size());
    std::ranges::fill(results, -1);
    int error = begin(deadline);
    for (std::size_t done = 0; error >= 0 && done < requests.size(); done += static_cast<std::size_t>(error))
        if (error = exchange(requests.subspan(done), results.subspan(done), deadline); error < 0) break;
    if (error >= 0) return 0;
    for (int& result : results) {
        UniqueFd closed(result);
        result = error;
    }
    return error;
}

int Connection::exchange(std::span<const fdbroker_request> requests, std::span<int> results,
                         const Deadline& deadline) {
    // The ids of a message increase, so none may lie on both sides of the largest one.
    if (next_id_ > UINT32_MAX - proto::max_requests) next_id_ = 1;
    Batch batch{.first_id = next_id_, .results = results};
    const std::span<std::byte> buffer(out_);
    proto::RequestWriter writer(buffer.first(max_message_), current_cpu());
    const int taken = write_batch(requests, batch, writer);
    next_id_ += static_cast<std::uint32_t>(taken);
    if (writer.count() == 0) return taken;
    if (const int error = send(writer.message(), deadline); error < 0) return error;
    while (batch.pending.any())
        if (const int error = receive_replies(batch, deadline); error < 0) return error;
    return taken;
}

int Connection::write_batch(std::span<const fdbroker_request> requests, Batch& batch,
                            proto::RequestWriter& writer) {
    const std::size_t most = std::min(requests.size(), max_requests_);
    std::size_t taken = 0;
    for (; taken < most; ++taken) {
        const fdbroker_request& request = requests[taken];
        const std::size_t length =
            request.path == nullptr ? 0 : ::strnlen(request.path, proto::max_path_length + 1);
        if (request.path == nullptr) {
            batch.results[taken] = refuse(EFAULT, "the path is NULL");
        } else if (length > proto::max_path_length) {
            batch.results[taken] = refuse(ENAMETOOLONG, "the path is longer than 4095 bytes");
        } else if (writer.add({.id = batch.first_id + static_cast<std::uint32_t>(taken),
                               .flags = static_cast<std::uint32_t>(request.flags),
                               .mode = static_cast<std::uint32_t>(request.mode),
                               .path = {request.path, length}})) {
            batch.pending.set(taken);
        } else {
            break;
        }
    }
    return static_cast<int>(taken);
}

int Connection::receive_replies(Batch& batch, const Deadline& deadline) {
    std::span<const std::byte> message;
    if (const int error = receive(message, deadline); error < 0) return error;
    const auto header = proto::read_header(message);
    if (header && header->type == MessageType::end) return end(message);
    const auto replies = proto::read_replies(message, replies_);
    if (!replies) return fail(EPROTO, to_string(replies.error()));
    return take_replies(*replies, batch);
}

int Connection::take_replies(std::span<const Reply> replies, Batch& batch) {
    const auto promised = static_cast<std::size_t>(std::ranges::count_if(replies, &Reply::has_descriptor));
    const std::size_t came = descriptors_.count();
    if (came > promised || (came < promised && !descriptors_.cut_short()))
        return fail(EPROTO, "the descriptors are not those that the replies tell of");
    std::size_t next = 0;
    for (const Reply& reply : replies) {
        UniqueFd descriptor;
        if (reply.has_descriptor && next < came) descriptor = descriptors_.take(next++);
        // An answer that nobody waits for: to a request that was given up, or a second one after the broker crashed
        // between sending the first and noting that it had.
        const std::uint32_t index = reply.id - batch.first_id;
        if (index >= batch.pending.size() || !batch.pending.test(index)) continue;
        batch.pending.reset(index);
        int& result = batch.results[index];
        if (reply.status != 0) {
            result = -reply.status;
            note(reply);
        } else if (!reply.has_descriptor) {
            return fail(EPROTO, "a file was promised and not sent");
        } else if (!descriptor) {
            result = refuse(EMFILE, "the descriptor table of this process is full");
        } else {
            result = descriptor.release();
        }
    }
    return 0;
}

int Connection::send(std::span<const std::byte> message, const Deadline& deadline) {
    for (;;) {
        const auto sent = proto::send(socket_.borrow(), message, {}, deadline ? Wait::never : Wait::block);
        if (sent) return 0;
        if (sent.error().errno_value != EAGAIN) return fail_with(sent.error());
        if (const int error = wait_for(POLLOUT, deadline); error < 0) return error;
    }
}

int Connection::receive(std::span<const std::byte>& message, const Deadline& deadline) {
    for (;;) {
        const auto received = proto::receive(socket_.borrow(), in_, descriptors_,
                                             deadline ? Wait::never : Wait::block, proto::FullTable::keep);
        if (received) {
            message = *received;
            return 0;
        }
        if (received.error().errno_value != EAGAIN) return fail_with(received.error());
        if (const int error = wait_for(POLLIN, deadline); error < 0) return error;
    }
}

int Connection::wait_for(short events, const Deadline& deadline) {
    using namespace std::chrono;
    pollfd waited{.fd = socket_.number(), .events = events, .revents = 0};
    for (;;) {
        // Without a deadline an inherited socket that was made non-blocking is still waited for.
        int left = -1;
        if (deadline) {
            const auto rest = ceil<milliseconds>(*deadline - steady_clock::now()).count();
            left = static_cast<int>(std::max<decltype(rest)>(rest, 0));
        }
        const int ready = ::poll(&waited, 1, left);
        if (ready > 0) return 0;
        if (ready == 0) return refuse(ETIMEDOUT, "the broker did not answer in time");
        if (errno != EINTR) return fail(errno, "poll failed");
    }
}

int Connection::fail(int error, std::string_view why) {
    descriptors_.clear();
    socket_.reset();
    return refuse(error, why);
}

int Connection::fail_with(const proto::Error& error) {
    switch (error.kind) {
        case ErrorKind::disconnected:
            return fail(ECONNRESET, "the broker is gone");
        case ErrorKind::protocol:
            return fail(EPROTO, "a message that was cut short");
        case ErrorKind::system:
            break;
    }
    return fail(error.errno_value, words_for(error.errno_value));
}

int Connection::end(std::span<const std::byte> message) {
    const auto told = proto::read_end(message);
    if (!told) return fail(EPROTO, to_string(told.error()));
    std::array<char, proto::max_reason_length + 40> why;
    std::snprintf(why.data(), why.size(), "the broker ended the connection: %.*s",
                  static_cast<int>(told->reason.size()), told->reason.data());
    return fail(ECONNRESET, why.data());
}

int Connection::refuse(int error, std::string_view why) {
    std::snprintf(reason_.data(), reason_.size(), "client: %.*s", static_cast<int>(why.size()), why.data());
    return -error;
}

void Connection::note(const Reply& reply) {
    const std::string_view step = to_string(reply.step);
    const std::string_view why = reply.reason.empty() ? words_for(reply.status) : reply.reason;
    const int size =
        std::snprintf(reason_.data(), reason_.size(), "%.*s: %.*s", static_cast<int>(step.size()),
                      step.data(), static_cast<int>(why.size()), why.data());
    if (reply.record != 0 && size > 0)
        std::snprintf(reason_.data() + size, reason_.size() - static_cast<std::size_t>(size),
                      " (record %llu)", static_cast<unsigned long long>(reply.record));
}

}  // namespace fdbroker::worker
