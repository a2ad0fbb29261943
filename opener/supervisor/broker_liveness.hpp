// SPDX-License-Identifier: MIT
// Whether the broker that serves answers pings, and when the service manager hears of that (WatchdogSec=).
#pragma once

#include <chrono>
#include <optional>

#include "opener/base/sd_notify.hpp"

namespace fdbroker::opener {

class BrokerLiveness {
  public:
    using Clock = std::chrono::steady_clock;

    // A broker that has answered nothing for so long is replaced: whoever has its uid can stop it.
    static constexpr std::chrono::seconds max_silence{5};

    // Between two pings.
    std::chrono::microseconds interval() const;
    // Another broker serves.
    void begin() noexcept { unanswered_ = 0; }
    // An interval begins; true: the broker has been silent for too long. Intervals are counted, since time also passes
    // while the supervisor itself is stopped and asks nobody.
    bool is_silent() { return unanswered_++ * interval() >= max_silence; }
    // The broker has answered. The service manager hears that all is well when the broker's own loop has said so.
    void answered();

  private:
    std::optional<std::chrono::microseconds> watchdog_ = watchdog_interval();
    Clock::time_point tell_service_manager_at_{};
    unsigned unanswered_ = 0;  // intervals in a row
};

}  // namespace fdbroker::opener
