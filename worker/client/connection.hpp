// One connection to the broker: requests out, replies and their descriptors in.
//
// Errors are negative errnos, as in fdbroker.h; nothing here throws but std::bad_alloc. An object belongs to one thread
// at a time.
#pragma once

#include <array>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"
#include "worker/client/c_api.hpp"

namespace fdbroker::worker {

class Connection {
  public:
    // Takes over a connected socket. The ids of the requests begin with `first_id`.
    explicit Connection(proto::UniqueFd socket, std::uint32_t first_id = 1)
        : socket_(std::move(socket)), next_id_(first_id) {}

    // Asks the broker what it speaks; once, before anything else.
    int greet();
    int open(const fdbroker_request& request);
    // As fdbroker_open_many().
    int open_many(std::span<const fdbroker_request> requests, int* fds);

    void set_timeout(int milliseconds) { timeout_ = milliseconds; }
    const char* reason() const { return reason_.data(); }
    proto::BorrowedFd socket() const { return socket_.borrow(); }
    // In a forked child: closes the copy of the socket. Safe in a signal handler.
    void abandon() noexcept;

  private:
    using Deadline = std::optional<std::chrono::steady_clock::time_point>;

    // The requests of one message, and where their results go. Request n has the id first_id + n.
    struct Batch {
        std::uint32_t first_id = 0;
        std::bitset<proto::max_requests> pending{};  // sent and not answered
        std::span<int> results{};
    };

    int begin(Deadline& deadline);
    // Sends as many of the requests as fit one message, at least one, and waits for their answers. Returns how many,
    // or why the connection failed; results then hold what had come.
    int exchange(std::span<const fdbroker_request> requests, std::span<int> results,
                 const Deadline& deadline);
    int write_batch(std::span<const fdbroker_request> requests, Batch& batch, proto::RequestWriter& writer);
    int receive_replies(Batch& batch, const Deadline& deadline);
    int take_replies(std::span<const proto::Reply> replies, Batch& batch);

    int send(std::span<const std::byte> message, const Deadline& deadline);
    // The next message; it lies in in_, its descriptors in descriptors_.
    int receive(std::span<const std::byte>& message, const Deadline& deadline);
    int wait_for(short events, const Deadline& deadline);

    // The connection is over: `error` now, ECONNRESET later.
    int fail(int error, std::string_view why);
    int fail_with(const proto::Error& error);
    int end(std::span<const std::byte> message);
    int refuse(int error, std::string_view why);
    void note(const proto::Reply& reply);

    proto::UniqueFd socket_;
    bool abandoned_ = false;
    int timeout_ = -1;  // milliseconds; negative: none
    std::uint32_t next_id_;
    std::size_t max_requests_ = proto::max_requests;
    std::size_t max_message_ = proto::max_message_size;
    std::array<char, 320> reason_{};
    proto::ReceivedDescriptors descriptors_;
    std::array<proto::Reply, proto::max_requests> replies_;
    std::array<std::byte, proto::max_message_size> out_;
    std::array<std::byte, proto::max_message_size> in_;
};

}  // namespace fdbroker::worker
