// SPDX-License-Identifier: MIT
// One connection to the broker: requests out, replies and their descriptors in.
//
// Errors are negative errnos, as in fdbroker.h; nothing here throws but std::bad_alloc. An object belongs to one thread
// at a time.
#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"
#include "worker/client/busy_wait.hpp"
#include "worker/client/outstanding.hpp"
#include "worker/client/paths.hpp"

namespace fdbroker::worker {

// A caller's request as it goes over the wire, with nothing checked yet.
struct Ask {
    proto::Call call = proto::Call::open;
    const char* path = nullptr;
    std::uint32_t flags = 0;
    std::uint32_t mode = 0;
    std::string_view payload{};
};

// A request that nobody waits for in a call.
struct Submission {
    Ask ask{};
    std::uint64_t tag = 0;  // comes back with the completion
    int timeout = -1;       // milliseconds; negative: none
};

// Whether the call's answer has a file.
constexpr bool brings_file(proto::Call call) {
    return call == proto::Call::open || call == proto::Call::put || call == proto::Call::watch;
}

class Connection {
  public:
    // Takes over a connected socket. The ids of the requests begin with `first_id`.
    explicit Connection(proto::UniqueFd socket, std::uint32_t first_id = 1)
        : socket_(std::move(socket)), next_id_(first_id) {}

    // Asks the broker what it speaks; once, before anything else.
    int greet();

    // Asks and waits for the answer: a descriptor where the call has one, else 0; or a negative errno. What the answer
    // carries besides goes to `payload`.
    int ask(const Ask& ask, std::string* payload = nullptr) { return this->ask(ask, payload, deadline()); }
    // The same, by a deadline that several of them share.
    int ask(const Ask& ask, std::string* payload, const Deadline& deadline);
    // When a call that begins now gives up.
    Deadline deadline() const { return deadline_in(timeout_); }
    // Asks for what Ask `ask_of(index)` describes, for each of the results, which are -1, and waits: results[index] is
    // what ask() would have returned. 0; or a negative errno when the connection failed, and what is in the results by
    // then is the caller's to close. As fdbroker_open_many().
    template <typename AskOf>
    int ask_many(std::span<int> results, AskOf ask_of);
    // The same in one message of which each request succeeds or none. E2BIG: they do not fit one.
    int ask_whole(std::span<const Ask> asks, std::span<int> results);

    // Puts requests on their way without waiting for anything; returns how many. EAGAIN: none, since too many are
    // outstanding. What cannot be sent as it is, is completed with its error. While others are on their way, what is
    // submitted goes with the next call, in as few messages as may be.
    int submit(std::span<const Submission> submissions);
    // Sends what could not be sent before, takes what has come, and waits until there is something, at most that many
    // milliseconds (negative: without end). Moves up to `most` completions to completions(); returns how many.
    // 0: nothing came in time, or nothing is outstanding. ECONNRESET: the connection is over, and every completion has
    // been handed out.
    int complete(std::size_t most, int timeout);
    std::span<Completion> completions() { return outstanding_.shown(); }
    // Submitted requests that the next submit() or complete() sends.
    bool has_unsent() const { return outstanding_.has_unsent(); }
    // Readable when complete() has something to do. The connection's own.
    int descriptor();

    void set_timeout(int milliseconds) { timeout_ = milliseconds; }
    // 0: every wait sleeps at once.
    void set_busy_poll(std::chrono::microseconds limit) { busy_wait_.set_limit(limit); }
    // Where relative paths begin: a canonical path; empty: they are refused.
    void set_directory(std::string path) { directory_ = std::move(path); }
    const std::string& directory() const { return directory_; }
    // Noted by a call that asks for nothing.
    void clear_reason() { reason_[0] = '\0'; }
    const char* reason() const { return reason_.data(); }
    proto::BorrowedFd socket() const { return socket_.borrow(); }
    // All that the connection holds open.
    std::vector<proto::BorrowedFd> descriptors() const;
    // In a forked child: closes the copies. Safe in a signal handler.
    void abandon() noexcept;
    // The same, but the socket is another's to go on with.
    void leave_socket() noexcept {
        static_cast<void>(socket_.release());
        abandon();
    }
    // The findings of greet() on the same socket.
    void take_limits(const Connection& other) {
        calls_ = other.calls_;
        max_requests_ = other.max_requests_;
        max_message_ = other.max_message_;
        busy_wait_ = other.busy_wait_;
    }
    // Another socket instead of one that is over or the parent's; what is outstanding is given up.
    int begin_anew(proto::UniqueFd socket);
    bool is_over() const { return !socket_; }
    // For a broker in this process: called before the connection looks for answers, to make them.
    void set_peer(std::function<void()> serve) { serve_peer_ = std::move(serve); }

    // Notes the reason in words; returns -error.
    int refuse(int error, std::string_view why);
    // The same, and the connection is over: `error` now, ECONNRESET later.
    int fail(int error, std::string_view why);

  private:
    // The requests of one message, and where their results go. Request n has the id first_id + n.
    struct Batch {
        std::uint32_t first_id = 0;
        std::bitset<proto::max_requests> pending{};  // sent and not answered
        std::size_t left = 0;                        // how many are pending
        std::bitset<proto::max_requests> brings_file{};
        std::span<int> results{};
        std::string* payload = nullptr;  // the payload for the only request
    };

    int begin();
    bool serves(proto::Call call) const { return (calls_ >> static_cast<unsigned>(call) & 1) != 0; }
    // Sends as many of the requests as fit one message, at least one, and waits for their answers. Returns how many,
    // or why the connection failed; results then hold what had come.
    int exchange(std::span<const Ask> asks, Batch& batch, const Deadline& deadline,
                 proto::Batch kind = proto::Batch::each_for_itself);
    // The request of an Ask but for its id; its path is good until the next call. Nothing may be sent for this one: the
    // errno, and the reason is noted.
    int check(const Ask& ask, proto::Request& request);
    // The same for a path that is not canonical.
    int check_written(const Ask& ask, const WrittenPath& path, proto::Request& request);
    int write_batch(std::span<const Ask> asks, Batch& batch, proto::RequestWriter& writer);
    std::uint32_t take_ids(std::size_t count);
    int receive_replies(Batch& batch, const Deadline& deadline);
    int take_message(std::span<const std::byte> message, Batch& batch);
    int take_replies(std::span<const proto::Reply> replies, Batch& batch);
    // The result that a reply means for a request. A negative value that ended the connection has emptied socket_.
    int result_of(const proto::Reply& reply, bool brings_file, proto::UniqueFd descriptor);
    void take(const Submission& submission);
    int take_outstanding(const proto::Reply& reply, proto::UniqueFd descriptor);
    void discard_given_up(const proto::Reply& reply);

    int send(std::span<const std::byte> message, const Deadline& deadline);
    // 0: sent; EAGAIN: not now.
    int send_now(std::span<const std::byte> message);
    // The broker takes no message any more: what it has sent is taken, and the reason it gave noted. Returns an error.
    int take_last_words();
    // The next message; it lies in in_, its descriptors in descriptors_.
    int receive(std::span<const std::byte>& message, const Deadline& deadline);
    proto::Result<std::span<const std::byte>> receive_now(proto::Wait wait);
    proto::Result<std::span<const std::byte>> receive_awake(const Deadline& deadline);
    // For requests that are outstanding: everything that can be sent or received without waiting.
    int send_unsent();
    int take_what_came();
    int take_or_wait(const Deadline& deadline);
    int wait_for(int events, const Deadline& deadline);
    void update_wake() { outstanding_.update_wake(socket_.borrow()); }

    int fail_with(const proto::Error& error);
    int end(std::span<const std::byte> message);

    proto::UniqueFd socket_;
    bool abandoned_ = false;
    int timeout_ = -1;  // milliseconds; negative: none
    std::string directory_{};
    std::string canonical_{};  // path of the request that is being written
    std::uint32_t next_id_;
    std::uint64_t calls_ = ~std::uint64_t{0};  // served
    std::size_t max_requests_ = proto::max_requests;
    std::size_t max_message_ = proto::max_message_size;
    std::array<char, 320> reason_{};
    int told_errno_ = 0;  // the broker's, with which it has ended the connection
    Outstanding outstanding_{};
    BusyWait busy_wait_{};
    std::function<void()> serve_peer_{};
    proto::ReceivedDescriptors descriptors_;
    std::array<proto::Reply, proto::max_requests> replies_;
    std::array<std::byte, proto::max_message_size> out_;
    std::array<std::byte, proto::max_message_size> in_;
};

template <typename AskOf>
int Connection::ask_many(std::span<int> results, AskOf ask_of) {
    const Deadline deadline = this->deadline();
    int error = begin();
    std::array<Ask, proto::max_requests> asks;
    for (std::size_t done = 0; error >= 0 && done < results.size();) {
        const std::size_t some = std::min(results.size() - done, asks.size());
        for (std::size_t index = 0; index < some; ++index) asks[index] = ask_of(done + index);
        Batch batch{.results = results.subspan(done, some)};
        error = exchange(std::span(asks).first(some), batch, deadline);
        done += static_cast<std::size_t>(std::max(error, 0));
    }
    update_wake();
    return std::min(error, 0);
}

}  // namespace fdbroker::worker
