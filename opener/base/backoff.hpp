// SPDX-License-Identifier: MIT
// Delays between tries that fail again and again: each is twice the one before, up to a maximum.
#pragma once

#include <algorithm>
#include <chrono>

namespace fdbroker::opener {

class Backoff {
  public:
    using Duration = std::chrono::milliseconds;

    constexpr Backoff(Duration first, Duration max) noexcept : first_(first), max_(max) {}

    // The delay before the next try: `first` after a reset().
    constexpr Duration next() noexcept {
        delay_ = std::clamp(2 * delay_, first_, max_);
        return delay_;
    }
    // The delay that next() returned last; zero after a reset().
    constexpr Duration last() const noexcept { return delay_; }
    constexpr void reset() noexcept { delay_ = Duration(0); }

  private:
    Duration first_;
    Duration max_;
    Duration delay_{0};
};

}  // namespace fdbroker::opener
