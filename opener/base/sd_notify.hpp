// SPDX-License-Identifier: MIT
// The service manager's protocol (sd_notify(3)): nothing without one. By hand, since libsystemd brings seven libraries.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// How often the service manager wants to hear that the service is alive, halved so that it always does; nullopt: it has
// not asked (WatchdogSec=, sd_watchdog_enabled(3)).
std::optional<std::chrono::microseconds> watchdog_interval();
void service_manager_alive();
void service_manager_ready();  // also: the reload is over
void service_manager_reloading();
void service_manager_stopping();

// Sends a message to the socket that $NOTIFY_SOCKET names, a path or an abstract @NAME; waits for room in it. False:
// there is no such socket, or it does not take the message.
bool notify_service_manager(std::string_view message, std::span<const proto::BorrowedFd> descriptors = {});

// How many descriptors the service manager keeps over a restart of the service ($FDSTORE, FileDescriptorStoreMax=); 0: none,
// or there is no service manager.
std::size_t descriptor_store_size();
// Has them kept under this name, in which no colon is, until the service stops for good or forget_stored() is called. False:
// not all were sent.
bool store_descriptors(std::string_view name, std::span<const proto::BorrowedFd> descriptors);
// All of this name.
void forget_stored(std::string_view name);
// Waits until the service manager has seen to all that it was told before. False: it has not within that time.
bool await_service_manager(std::chrono::milliseconds timeout);

}  // namespace fdbroker::opener
