// SPDX-License-Identifier: MIT
// What the service manager is told (sd_notify(3)); nothing without one, or without libsystemd.
#pragma once

#include <chrono>
#include <optional>

namespace fdbroker::opener {

// How often the service manager wants to hear that the service is alive, halved so that it always does; nullopt: it has
// not asked (WatchdogSec=, sd_watchdog_enabled(3)).
std::optional<std::chrono::microseconds> watchdog_interval();
void service_manager_alive();
void service_manager_ready();  // also: the reload is over
void service_manager_reloading();
void service_manager_stopping();

}  // namespace fdbroker::opener
