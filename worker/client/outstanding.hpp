// SPDX-License-Identifier: MIT
// The requests of a connection that nobody waits for in a call: those on their way, and those that are answered.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proto/message.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// `milliseconds` from now; negative: none.
Deadline deadline_in(int milliseconds);
// For poll(2): milliseconds until then, rounded up, 0 when it has passed; negative without a deadline.
int milliseconds_until(const Deadline& deadline);
bool has_passed(const Deadline& deadline);

// A request that has been answered, or given up.
struct Completion {
    std::uint64_t tag = 0;
    proto::Call call = proto::Call::open;
    bool of_directory = false;  // the path ended as only that of a directory may
    int result = 0;             // 0 or a negative errno; a descriptor is in `file`
    proto::UniqueFd file{};
    std::string payload{};
    std::string reason{};
};

class Outstanding {
  public:
    // So many requests on their way or completions that wait to be fetched, at most: 4 messages full.
    static constexpr std::size_t most = 4 * proto::max_requests;

    std::size_t room() const { return most - std::min(most, waiting_.size() + done_.size()); }
    bool is_full() const { return room() == 0; }
    bool is_waiting() const { return !waiting_.empty(); }
    bool has_done() const { return !done_.empty(); }

    void add(std::uint32_t id, proto::Call call, std::uint64_t tag, const Deadline& deadline,
             bool of_directory);
    // The call of the request with this id; nullopt: it is not known, or was given up.
    std::optional<proto::Call> call_of(std::uint32_t id) const;
    // The request is answered; `completion` has everything but its tag and its call.
    void finish(std::uint32_t id, Completion completion);
    // All that are on their way.
    void give_up(int error, const std::string& reason);
    // Those whose time has passed.
    void expire(const std::string& reason);
    Deadline earliest() const;
    // A put that nobody waits for any more, and that is to be discarded when its answer comes.
    void give_up_put(std::uint32_t id, std::string path);
    // The path of the given-up put with this id, which is forgotten; nullopt: there is none.
    std::optional<std::string> take_given_up_put(std::uint32_t id);

    // Moves up to `count` completions from the queue to shown(), whose former ones go.
    std::size_t show(std::size_t count);
    std::span<Completion> shown() { return shown_; }

    // Puts a request into the last message that is not sent, or begins another. A message has at most so many bytes and
    // so many requests. False: the request fits none.
    bool write(const proto::Request& request, std::size_t max_message, std::size_t max_requests);
    bool has_unsent() const { return !unsent_.empty(); }
    std::size_t unsent_messages() const { return unsent_.size(); }
    std::span<const std::byte> first_unsent() const { return unsent_.front().writer.message(); }
    void first_is_sent() { unsent_.pop_front(); }
    void drop_unsent() { unsent_.clear(); }

    // An epoll(7) instance that is readable when the connection has something to do: one descriptor for any event loop,
    // whatever is waited for. Made when it is asked for first. A negative errno on failure.
    int make_wake(proto::BorrowedFd socket);
    // Sets anew the events that wake it. `socket` may be closed.
    void update_wake(proto::BorrowedFd socket);
    void close_wake() noexcept;
    // All that is held open here, files that nobody has fetched included.
    std::vector<proto::BorrowedFd> descriptors() const;

  private:
    struct Waiting {
        proto::Call call;
        std::uint64_t tag;
        Deadline deadline;
        bool of_directory;
    };
    // A broker lets a user have fewer puts than this.
    static constexpr std::size_t most_given_up = 64;
    struct Message {
        std::unique_ptr<std::byte[]> buffer;
        proto::RequestWriter writer;
        std::uint32_t last_id = 0;
    };

    std::unordered_map<std::uint32_t, Waiting> waiting_{};
    std::deque<std::pair<std::uint32_t, std::string>> given_up_puts_{};  // ids and paths, oldest first
    std::deque<Completion> done_{};
    std::vector<Completion> shown_{};
    std::deque<Message> unsent_{};
    std::size_t deadlines_ = 0;  // deadlines of waiting requests
    proto::UniqueFd wake_{};
    proto::UniqueFd timer_{};  // runs out at the earliest deadline, or at once
    Deadline timer_at_{};      // the time it is set to
    bool waits_for_room_ = false;
};

}  // namespace fdbroker::worker
