// SPDX-License-Identifier: MIT
// Whether to look for the other end's next message without sleeping.
//
// Waking a process that sleeps on another CPU takes longer than a request does: some 20 µs each way in a virtual machine,
// 3 to 50 µs on bare metal, by how deep the CPU sleeps. Two processes that answer each other within microseconds go
// faster, and use less of both CPUs, when neither sleeps. So a process that waits looks for a message first, as long as recent
// waits were short. Between two looks it yields the CPU (sched_yield(2)) to whatever else wants to run there.
#pragma once

#include <algorithm>
#include <chrono>

namespace fdbroker::proto {

// How long one wait may be spent looking: about what two wake-ups take. net.core.busy_poll has the same unit.
inline constexpr std::chrono::microseconds default_busy_poll{20};
inline constexpr std::chrono::microseconds max_busy_poll{1000};
// A CPU that was given away for so long is another program's: whoever looks sleeps instead, for a while.
inline constexpr std::chrono::microseconds long_yield{500};

// The recent waits, in one number. Pure: no clock is read here.
class WaitHistory {
  public:
    // `shortness`: the waits that count as short; 0: none does.
    explicit WaitHistory(std::chrono::nanoseconds shortness) noexcept : shortness_(shortness) {}

    bool are_short() const noexcept { return score_ >= enough; }
    void add(std::chrono::nanoseconds wait) noexcept {
        score_ = is_short(wait) ? std::min(score_ + 1, most) : std::max(score_ - each_long, 0);
    }
    bool is_short(std::chrono::nanoseconds wait) const noexcept { return wait < shortness_; }
    void forget() noexcept { score_ = 0; }
    std::chrono::nanoseconds shortness() const noexcept { return shortness_; }

  private:
    // Looking in vain costs as much as three short waits gain.
    static constexpr int enough = 2, most = 16, each_long = 3;

    std::chrono::nanoseconds shortness_;
    int score_ = 0;
};

}  // namespace fdbroker::proto
