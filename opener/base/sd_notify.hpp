// SPDX-License-Identifier: MIT
// The service manager's protocol (sd_notify(3)): nothing without one. By hand, since libsystemd brings seven libraries.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace fdbroker::opener {

// How often the service manager wants to hear that the service is alive, halved so that it always does; nullopt: it has
// not asked (WatchdogSec=, sd_watchdog_enabled(3)).
std::optional<std::chrono::microseconds> watchdog_interval();
void service_manager_alive();
void service_manager_ready();  // also: the reload is over
void service_manager_reloading();
void service_manager_stopping();

// One message to the socket that $NOTIFY_SOCKET names, a path or an abstract @NAME; waits for room in it. False: there is
// none, or it does not take the message.
bool notify_service_manager(std::string_view message);

}  // namespace fdbroker::opener
