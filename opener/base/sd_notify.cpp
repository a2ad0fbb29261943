// SPDX-License-Identifier: MIT
#include "opener/base/sd_notify.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "opener/base/environment_number.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

std::optional<std::chrono::microseconds> watchdog_interval() {
    if (::getenv("WATCHDOG_PID") != nullptr && environment_number("WATCHDOG_PID") != ::getpid())
        return std::nullopt;
    const auto microseconds = environment_number("WATCHDOG_USEC");
    if (!microseconds || *microseconds <= 0) return std::nullopt;
    return std::chrono::microseconds(*microseconds / 2);
}

bool notify_service_manager(std::string_view message) {
    const char* const text = ::getenv("NOTIFY_SOCKET");
    const std::string_view place = text != nullptr ? text : "";
    if (!place.starts_with('/') && !place.starts_with('@')) return false;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (place.size() >= sizeof address.sun_path) return false;
    std::ranges::copy(place, address.sun_path);
    if (place.starts_with('@')) address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + place.size());

    const proto::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return false;
    ssize_t sent = 0;
    do {
        sent = ::sendto(socket.number(), message.data(), message.size(), MSG_NOSIGNAL,
                        reinterpret_cast<const sockaddr*>(&address), size);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

void service_manager_alive() {
    static_cast<void>(notify_service_manager("WATCHDOG=1"));
}

void service_manager_ready() {
    static_cast<void>(notify_service_manager("READY=1"));
}

void service_manager_reloading() {
    // Type=notify-reload wants to know when the reload began, by CLOCK_MONOTONIC.
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    static_cast<void>(notify_service_manager(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds)));
}

void service_manager_stopping() {
    static_cast<void>(notify_service_manager("STOPPING=1"));
}

}  // namespace fdbroker::opener
