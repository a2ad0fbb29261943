// SPDX-License-Identifier: MIT
// The broker, asked by coroutines: each waits for its own answer, and none for another's.
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "proto/unique_fd.hpp"
#include "worker/client/connection.hpp"

namespace fdbroker::worker {

// The broker's answer: 0 or a negative errno in `result`, a file where the call brings one.
using Reply = Completion;

class BrokerLink {
  public:
    // Told of every answer.
    using Observer = std::function<void(const Ask&, const Reply&)>;

    // `connection` must outlive it and have greeted the broker.
    BrokerLink(Connection& connection, Observer observer)
        : connection_(connection), observer_(std::move(observer)) {}

    class Awaiter {
      public:
        Awaiter(BrokerLink& link, const Ask& ask) : link_(link), ask_(ask) {}
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> asker);
        Reply await_resume() { return std::move(reply_); }

      private:
        friend class BrokerLink;
        BrokerLink& link_;
        Ask ask_;
        std::coroutine_handle<> asker_{};
        Reply reply_{};
    };
    // `ask`'s path and payload must live until the answer is there. A connection that is over answers EIO.
    Awaiter ask(const Ask& ask) { return {*this, ask}; }

    // Readable when serve() has something to do; writable, while waits_for_room(), as well.
    proto::BorrowedFd descriptor() const { return connection_.socket(); }
    // Requests that serve() sends.
    bool has_unsent() const { return !is_over_ && connection_.has_unsent(); }
    bool waits_for_room() const { return waits_for_room_; }
    // Takes what has come and resumes who asked; blocks never.
    void serve();
    bool is_over() const { return is_over_; }
    // Why the last refused request was.
    const char* reason() const { return connection_.reason(); }

  private:
    // False: answered already.
    bool send(Awaiter& awaiter);
    void give_up(Awaiter& awaiter);

    Connection& connection_;
    Observer observer_;
    std::uint64_t next_tag_ = 1;
    std::unordered_map<std::uint64_t, Awaiter*> waiting_{};
    std::vector<Awaiter*> unsent_{};  // while too many are outstanding
    bool waits_for_room_ = false;
    bool is_over_ = false;
};

}  // namespace fdbroker::worker
