// SPDX-License-Identifier: MIT
#include "worker/client/connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "proto/payload.hpp"

namespace fdbroker::worker {
namespace {

using proto::Call;
using proto::ErrorKind;
using proto::MessageType;
using proto::Reply;
using proto::Request;
using proto::UniqueFd;
using proto::Wait;

std::uint16_t current_cpu() {
    const int cpu = ::sched_getcpu();
    return cpu >= 0 && cpu < proto::unknown_cpu ? static_cast<std::uint16_t>(cpu) : proto::unknown_cpu;
}

// strerror() would need a lock, or another buffer.
std::string_view words_for(int error) {
    const char* words = ::strerrordesc_np(error);
    return words != nullptr ? words : "unknown error";
}

void note(const Reply& reply, std::span<char> to) {
    const std::string_view step = to_string(reply.step);
    const std::string_view why = reply.reason.empty() ? words_for(reply.status) : reply.reason;
    const int size = std::snprintf(to.data(), to.size(), "%.*s: %.*s", static_cast<int>(step.size()),
                                   step.data(), static_cast<int>(why.size()), why.data());
    if (reply.record == 0 || size <= 0) return;
    const auto rest = to.subspan(static_cast<std::size_t>(size));
    std::snprintf(rest.data(), rest.size(), " (record %llu)", static_cast<unsigned long long>(reply.record));
}

constexpr std::string_view names_a_directory = "the path ends as only that of a directory may";
constexpr std::string_view too_late = "the broker did not answer in time";

}  // namespace

void Connection::abandon() noexcept {
    socket_.reset();
    outstanding_.close_wake();
    abandoned_ = true;
}

std::vector<proto::BorrowedFd> Connection::descriptors() const {
    std::vector<proto::BorrowedFd> all = outstanding_.descriptors();
    if (socket_) all.push_back(socket_.borrow());
    return all;
}

int Connection::begin() {
    reason_[0] = '\0';
    if (abandoned_) return refuse(EBADF, "the connection is the parent process's");
    if (!socket_) return refuse(ECONNRESET, "the connection is over");
    return 0;
}

int Connection::greet() {
    const Deadline deadline = this->deadline();
    if (const int error = begin(); error < 0) return error;
    if (const int error = send(std::span(out_).first(proto::write_hello(out_)), deadline); error < 0)
        return told_errno_ != 0 ? -told_errno_ : error;
    std::span<const std::byte> message;
    std::expected<proto::Header, proto::MessageError> header;
    // Whoever had an inherited socket before may have left it without waiting for the answers.
    do {
        if (const int error = receive(message, deadline); error < 0) return error;
        header = proto::read_header(message);
    } while (header && header->type == MessageType::replies);
    // Whoever does not speak our version says so in an `end` of his.
    if (!header && header.error() == proto::MessageError::bad_version)
        return fail(EPROTONOSUPPORT, "the broker speaks another version of the protocol");
    if (header && header->type == MessageType::end) {
        const int error = end(message);
        return told_errno_ != 0 ? -told_errno_ : error;
    }
    const auto reply = proto::read_hello_reply(message);
    if (!reply || descriptors_.count() != 0) return fail(EPROTO, "the answer to hello is none");
    max_requests_ = reply->max_requests_per_message;
    max_message_ = reply->max_message;
    calls_ = reply->calls;
    if ((calls_ & proto::no_busy_poll) != 0) busy_wait_.set_limit(std::chrono::microseconds(0));
    if (!serves(proto::Call::open)) return fail(EPROTONOSUPPORT, "the broker does not serve open");
    return 0;
}

int Connection::begin_anew(UniqueFd socket) {
    outstanding_.give_up(ECONNRESET, "client: the connection was made anew");
    outstanding_.drop_unsent();
    outstanding_.close_wake();
    socket_ = std::move(socket);
    abandoned_ = false;
    told_errno_ = 0;
    return greet();
}

int Connection::ask(const Ask& ask, std::string* payload, const Deadline& deadline) {
    if (const int error = begin(); error < 0) return error;
    int result = -1;
    Batch batch{.results = {&result, 1}, .payload = payload};
    const int error = exchange({&ask, 1}, batch, deadline);
    update_wake();
    if (error >= 0) return result;
    if (error == -ETIMEDOUT && ask.call == proto::Call::put && batch.left != 0)
        outstanding_.give_up_put(batch.first_id, ask.path);
    const UniqueFd closed(result);
    return error;
}

int Connection::ask_whole(std::span<const Ask> asks, std::span<int> results) {
    const Deadline deadline = this->deadline();
    if (const int error = begin(); error < 0) return error;
    if (asks.empty()) return 0;
    const auto good = [](int result) { return result >= 0; };
    for (std::size_t index = 0; index < asks.size(); ++index) {
        Request request;
        results[index] = check(asks[index], request);
    }
    // A request that cannot be sent fails, and so do the others.
    if (!std::ranges::all_of(results, good)) {
        std::ranges::replace_if(results, good, -ECANCELED);
        return 0;
    }
    std::ranges::fill(results, -1);
    Batch batch{.results = results};
    const int error = exchange(asks, batch, deadline, proto::Batch::all_or_nothing);
    update_wake();
    if (error < 0) return error;
    if (std::ranges::all_of(results, good)) return 0;
    // A file that did not fit our table takes the others along.
    for (int& result : results) {
        if (result < 0) continue;
        const UniqueFd closed(result);
        result = -ECANCELED;
    }
    return 0;
}

std::uint32_t Connection::take_ids(std::size_t count) {
    // The ids of a message increase, so none may lie on both sides of the largest one.
    if (next_id_ > UINT32_MAX - proto::max_requests) next_id_ = 1;
    const std::uint32_t first = next_id_;
    next_id_ += static_cast<std::uint32_t>(count);
    return first;
}

int Connection::exchange(std::span<const Ask> asks, Batch& batch, const Deadline& deadline,
                         proto::Batch kind) {
    batch.first_id = take_ids(std::min(asks.size(), max_requests_));
    const std::span<std::byte> buffer(out_);
    proto::RequestWriter writer(buffer.first(max_message_), current_cpu(), kind);
    const int taken = write_batch(asks, batch, writer);
    if (kind == proto::Batch::all_or_nothing && static_cast<std::size_t>(taken) != asks.size())
        return refuse(E2BIG, "the requests do not fit one message");
    if (writer.count() == 0) return taken;
    if (const int error = send_unsent(); error < 0) return error;
    if (!busy_wait_.is_off()) busy_wait_.ask(BusyWait::Clock::now());
    if (const int error = send(writer.message(), deadline); error < 0) return error;
    while (batch.left != 0) {
        if (const int error = receive_replies(batch, deadline); error < 0) return error;
        // Answers that nobody waits for may come without end.
        if (batch.left != 0 && has_passed(deadline)) return refuse(ETIMEDOUT, too_late);
    }
    if (!busy_wait_.is_off()) busy_wait_.answered(BusyWait::Clock::now());
    // A late answer that came with these may have left a put to discard.
    if (outstanding_.has_unsent()) static_cast<void>(send_unsent());
    return taken;
}

int Connection::check(const Ask& ask, Request& request) {
    if (ask.path == nullptr) return refuse(EFAULT, "the path is NULL");
    const WrittenPath path = read_path(ask.path);
    if (path.error != 0)
        return refuse(path.error,
                      path.error == ENOENT ? "the path is empty" : "the path or a name in it is too long");
    if (!serves(ask.call)) return refuse(EOPNOTSUPP, "the broker does not serve that");
    request = {
        .call = ask.call, .flags = ask.flags, .mode = ask.mode, .path = path.text, .payload = ask.payload};
    return path.is_canonical ? 0 : check_written(ask, path, request);
}

int Connection::check_written(const Ask& ask, const WrittenPath& path, Request& request) {
    if (path.is_relative && directory_.empty())
        return refuse(ENOENT, "the path is relative, and the connection has no directory");
    canonical_ = canonical_path(directory_, path.text);
    if (canonical_.size() > proto::max_path_length) return refuse(ENAMETOOLONG, "the path is too long");
    request.path = canonical_;
    if (!path.is_directory) return 0;
    switch (ask.call) {
        case Call::open:
            if ((ask.flags & O_CREAT) != 0) return refuse(EISDIR, names_a_directory);
            request.flags |= O_DIRECTORY;
            return 0;
        case Call::stat:
            request.flags &= ~static_cast<std::uint32_t>(AT_SYMLINK_NOFOLLOW);
            return 0;
        case Call::setattr:
            request.flags &= ~proto::setattr_link;
            return 0;
        case Call::put:
        case Call::commit:
            return refuse(EISDIR, names_a_directory);
        case Call::remove:
            return (ask.flags & AT_REMOVEDIR) != 0 ? 0 : refuse(ENOTDIR, names_a_directory);
        case Call::readlink:
            return refuse(EINVAL, names_a_directory);
        case Call::symlink:
            return refuse(ENOENT, names_a_directory);
        default:
            return 0;
    }
}

int Connection::write_batch(std::span<const Ask> asks, Batch& batch, proto::RequestWriter& writer) {
    const std::size_t most = std::min(asks.size(), max_requests_);
    std::size_t taken = 0;
    for (; taken < most; ++taken) {
        const Ask& ask = asks[taken];
        Request request;
        batch.results[taken] = check(ask, request);
        if (batch.results[taken] < 0) continue;
        batch.results[taken] = -1;
        request.id = batch.first_id + static_cast<std::uint32_t>(taken);
        if (!writer.add(request)) {
            if (taken > 0) break;
            batch.results[taken] = refuse(E2BIG, "the request does not fit a message");
            continue;
        }
        batch.pending.set(taken);
        ++batch.left;
        batch.brings_file.set(taken, brings_file(ask.call));
    }
    return static_cast<int>(taken);
}

int Connection::receive_replies(Batch& batch, const Deadline& deadline) {
    std::span<const std::byte> message;
    if (const int error = receive(message, deadline); error < 0) return error;
    return take_message(message, batch);
}

int Connection::take_message(std::span<const std::byte> message, Batch& batch) {
    const auto replies = proto::read_replies(message, replies_);
    if (replies) return take_replies(*replies, batch);
    const auto header = proto::read_header(message);
    if (header && header->type == MessageType::end) return end(message);
    return fail(EPROTO, to_string(replies.error()));
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
        if (index >= batch.pending.size() || !batch.pending.test(index)) {
            if (const int error = take_outstanding(reply, std::move(descriptor)); error < 0) return error;
            continue;
        }
        batch.pending.reset(index);
        --batch.left;
        if (batch.payload != nullptr) batch.payload->assign(reply.payload);
        batch.results[index] = result_of(reply, batch.brings_file.test(index), std::move(descriptor));
        if (!socket_) return batch.results[index];
    }
    return 0;
}

int Connection::result_of(const Reply& reply, bool brings_file, UniqueFd descriptor) {
    if (reply.status != 0) {
        note(reply, reason_);
        return -reply.status;
    }
    if (reply.has_descriptor != brings_file)
        return fail(EPROTO,
                    brings_file ? "a file was promised and not sent" : "a file that nobody asked for");
    if (!brings_file) return 0;
    if (!descriptor) return refuse(EMFILE, "the descriptor table of this process is full");
    return descriptor.release();
}

int Connection::send(std::span<const std::byte> message, const Deadline& deadline) {
    for (;;) {
        if (const int error = send_now(message); error != -EAGAIN) return error;
        if (serve_peer_) serve_peer_();
        // The broker reads nothing more while its answers are not read, those to requests that were given up
        // included.
        if (const int error = wait_for(POLLOUT | POLLIN, deadline); error < 0) return error;
        if (const int error = take_what_came(); error < 0) return error;
        if (has_passed(deadline)) return refuse(ETIMEDOUT, too_late);
    }
}

int Connection::send_now(std::span<const std::byte> message) {
    const auto sent = proto::send(socket_.borrow(), message, {}, Wait::never);
    if (sent) return 0;
    if (would_block(sent.error())) return -EAGAIN;
    return sent.error().kind == ErrorKind::disconnected ? take_last_words() : fail_with(sent.error());
}

// A broker that ends a connection says why before it closes its end, and answers what it has carried out.
int Connection::take_last_words() {
    if (const int error = take_what_came(); error < 0) return error;
    return fail(ECONNRESET, "the broker is gone");
}

proto::Result<std::span<const std::byte>> Connection::receive_now(Wait wait) {
    return proto::receive(socket_.borrow(), in_, descriptors_, wait, proto::FullTable::keep);
}

int Connection::receive(std::span<const std::byte>& message, const Deadline& deadline) {
    for (;;) {
        if (serve_peer_) serve_peer_();
        const auto received = receive_awake(deadline);
        if (received) {
            message = *received;
            return 0;
        }
        if (!would_block(received.error())) return fail_with(received.error());
        if (const int error = wait_for(POLLIN, deadline); error < 0) return error;
    }
}

// Looks for a message without sleeping for as long as that may take.
proto::Result<std::span<const std::byte>> Connection::receive_awake(const Deadline& deadline) {
    const Wait wait = deadline ? Wait::never : Wait::block;
    if (busy_wait_.is_off()) return receive_now(wait);
    auto until = busy_wait_.look_until();
    if (deadline) until = std::min(until, *deadline);
    for (auto now = busy_wait_.asked_at(); now < until;) {
        auto received = receive_now(Wait::never);
        if (received || !would_block(received.error())) return received;
        ::sched_yield();
        const auto before = std::exchange(now, BusyWait::Clock::now());
        if (now - before < proto::long_yield) continue;
        busy_wait_.disturbed();
        break;
    }
    return receive_now(wait);
}

int Connection::wait_for(int events, const Deadline& deadline) {
    pollfd waited{.fd = socket_.number(), .events = static_cast<short>(events), .revents = 0};
    for (;;) {
        // Without a deadline an inherited socket that was made non-blocking is still waited for.
        const int ready = ::poll(&waited, 1, milliseconds_until(deadline));
        if (ready > 0) return 0;
        if (ready == 0) return refuse(ETIMEDOUT, too_late);
        if (errno != EINTR) return fail(errno, "poll failed");
    }
}

int Connection::fail(int error, std::string_view why) {
    descriptors_.clear();
    socket_.reset();
    update_wake();
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
    told_errno_ = told->errno_value;
    std::array<char, proto::max_reason_length + 40> why;
    std::snprintf(why.data(), why.size(), "the broker ended the connection: %.*s",
                  static_cast<int>(told->reason.size()), told->reason.data());
    return fail(ECONNRESET, why.data());
}

int Connection::refuse(int error, std::string_view why) {
    std::snprintf(reason_.data(), reason_.size(), "client: %.*s", static_cast<int>(why.size()), why.data());
    return -error;
}

}  // namespace fdbroker::worker
