// SPDX-License-Identifier: MIT
// How a connection waits for an answer: it looks for a while before it sleeps, while its program asks again soon after
// each answer and the answers come soon (proto/busy_poll.hpp).
//
// The broker looks for a next request only while such come soon, and none does from a client that must be woken first. So
// the client begins: it waits awake for longer now and then, a few times in a row.
#pragma once

#include <chrono>

#include "proto/busy_poll.hpp"

namespace fdbroker::worker {

class BusyWait {
  public:
    using Clock = std::chrono::steady_clock;
    using Duration = std::chrono::nanoseconds;

    // 0: every wait sleeps at once, and no clock is read.
    void set_limit(std::chrono::microseconds limit) noexcept { *this = BusyWait(limit); }
    explicit BusyWait(std::chrono::microseconds limit = proto::default_busy_poll) noexcept
        : answers_(limit) {}
    bool is_off() const noexcept { return answers_.shortness().count() == 0; }

    // A request is about to leave.
    void ask(Clock::time_point now) noexcept;
    Clock::time_point asked_at() const noexcept { return asked_at_; }
    // The answer may be waited for awake until then; asked_at(): not at all.
    Clock::time_point look_until() const noexcept { return asked_at_ + budget_; }
    // The answer has come.
    void answered(Clock::time_point now) noexcept;
    // Other programs want the CPU.
    void disturbed() noexcept;

  private:
    static constexpr unsigned dense_after = 4;  // requests, each soon after the answer to the one before
    static constexpr unsigned trials = 8;       // waits in a row
    static constexpr unsigned trial_factor = 10;
    static constexpr unsigned least_pause = 64, longest_pause = 4096;  // requests between trials in vain

    void pause() noexcept;

    proto::WaitHistory answers_;
    Clock::time_point asked_at_{};
    Clock::time_point answered_at_{};
    Duration budget_{};
    unsigned dense_ = 0;
    unsigned trials_left_ = trials;
    unsigned pause_left_ = 0;
    unsigned next_pause_ = least_pause;
};

}  // namespace fdbroker::worker
