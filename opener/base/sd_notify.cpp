// SPDX-License-Identifier: MIT
#include "opener/base/sd_notify.hpp"

#include "opener/base/build_config.hpp"

#if FDBROKER_SYSTEMD
#include <fmt/format.h>
#include <systemd/sd-daemon.h>
#endif

namespace fdbroker::opener {

#if FDBROKER_SYSTEMD

std::optional<std::chrono::microseconds> watchdog_interval() {
    std::uint64_t microseconds = 0;
    if (::sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
    return std::chrono::microseconds(microseconds / 2);
}

void service_manager_alive() {
    ::sd_notify(0, "WATCHDOG=1");
}

void service_manager_ready() {
    ::sd_notify(0, "READY=1");
}

void service_manager_reloading() {
    // Type=notify-reload wants to know when the reload began, by CLOCK_MONOTONIC.
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    ::sd_notify(0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds).c_str());
}

void service_manager_stopping() {
    ::sd_notify(0, "STOPPING=1");
}

#else

std::optional<std::chrono::microseconds> watchdog_interval() {
    return std::nullopt;
}
void service_manager_alive() {}
void service_manager_ready() {}
void service_manager_reloading() {}
void service_manager_stopping() {}

#endif

}  // namespace fdbroker::opener
