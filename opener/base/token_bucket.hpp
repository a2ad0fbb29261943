// SPDX-License-Identifier: MIT
// How much somebody may use in the long run, and how much at once.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace fdbroker::opener {

class TokenBucket {
  public:
    using Clock = std::chrono::steady_clock;

    // `rate` a second, and `burst` at once after a pause; both at least 1. Whoever waits does so by timers of a
    // millisecond, so a burst of what comes in ten of them is always granted: else the rate could not be reached.
    TokenBucket(std::uint64_t rate, std::uint64_t burst) noexcept
        : rate_(static_cast<double>(rate)), burst_(std::max(static_cast<double>(burst), rate_ / 100)) {}

    // Takes tokens that have been used already, possibly more than there are.
    void use(std::uint64_t count, Clock::time_point now) noexcept {
        settle(now);
        used_ += static_cast<double>(count);
    }
    // From when on there is something left; in the past when there is now.
    Clock::time_point usable_at() const noexcept {
        if (used_ < burst_) return Clock::time_point::min();
        const std::chrono::duration<double> wait((used_ - burst_ + 1) / rate_);
        return settled_ + std::chrono::ceil<Clock::duration>(wait);
    }
    // Tokens used that have not come back.
    std::uint64_t used(Clock::time_point now) noexcept {
        settle(now);
        return static_cast<std::uint64_t>(used_);
    }
    // As if it had never been used.
    bool is_full(Clock::time_point now) noexcept {
        settle(now);
        return used_ == 0;
    }

  private:
    void settle(Clock::time_point now) noexcept {
        if (now <= settled_) return;
        const std::chrono::duration<double> passed = now - settled_;
        used_ = std::max(0.0, used_ - passed.count() * rate_);
        settled_ = now;
    }

    double rate_;
    double burst_;
    double used_ = 0;
    Clock::time_point settled_{};
};

}  // namespace fdbroker::opener
