// SPDX-License-Identifier: MIT
#include "opener/supervisor/broker_liveness.hpp"

#include <algorithm>

namespace fdbroker::opener {

namespace {

// Pings come more often where the service manager wants to hear more often.
constexpr std::chrono::microseconds max_interval{1'000'000};

}  // namespace

std::chrono::microseconds BrokerLiveness::interval() const {
    return std::min(watchdog_.value_or(max_interval), max_interval);
}

void BrokerLiveness::answered() {
    unanswered_ = 0;
    const auto now = Clock::now();
    if (!watchdog_ || now < tell_service_manager_at_) return;
    service_manager_alive();
    tell_service_manager_at_ = now + *watchdog_ - interval();
}

}  // namespace fdbroker::opener
