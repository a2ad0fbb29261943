// SPDX-License-Identifier: MIT
#include "opener/base/sd_notify.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "opener/base/environment_number.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::UniqueFd;

namespace {

constexpr std::size_t max_descriptors_at_once = 253;  // SCM_MAX_FD

void attach(msghdr& header, std::vector<std::byte>& control, std::span<const BorrowedFd> descriptors) {
    const std::size_t size = descriptors.size() * sizeof(int);
    control.resize(CMSG_SPACE(size));
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(size);
    std::vector<int> numbers;
    for (const BorrowedFd descriptor : descriptors) numbers.push_back(descriptor.number());
    std::memcpy(CMSG_DATA(part), numbers.data(), size);
}

}  // namespace

std::optional<std::chrono::microseconds> watchdog_interval() {
    if (::getenv("WATCHDOG_PID") != nullptr && environment_number("WATCHDOG_PID") != ::getpid())
        return std::nullopt;
    const auto microseconds = environment_number("WATCHDOG_USEC");
    if (!microseconds || *microseconds <= 0) return std::nullopt;
    return std::chrono::microseconds(*microseconds / 2);
}

bool notify_service_manager(std::string_view message, std::span<const BorrowedFd> descriptors) {
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
    iovec text_part{.iov_base = const_cast<char*>(message.data()), .iov_len = message.size()};
    msghdr header{};
    header.msg_name = &address;
    header.msg_namelen = size;
    header.msg_iov = &text_part;
    header.msg_iovlen = 1;
    std::vector<std::byte> control;
    if (!descriptors.empty()) attach(header, control, descriptors);
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket.number(), &header, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

std::size_t descriptor_store_size() {
    const auto size = environment_number("FDSTORE");
    if (!size || *size <= 0 || ::getenv("NOTIFY_SOCKET") == nullptr) return 0;
    return static_cast<std::size_t>(*size);
}

bool store_descriptors(std::string_view name, std::span<const BorrowedFd> descriptors) {
    bool all_sent = true;
    while (!descriptors.empty()) {
        const auto some = descriptors.first(std::min(descriptors.size(), max_descriptors_at_once));
        all_sent = notify_service_manager(fmt::format("FDSTORE=1\nFDNAME={}", name), some) && all_sent;
        descriptors = descriptors.subspan(some.size());
    }
    return all_sent;
}

void forget_stored(std::string_view name) {
    static_cast<void>(notify_service_manager(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name)));
}

bool await_service_manager(std::chrono::milliseconds timeout) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    const UniqueFd read_end(ends[0]);
    {
        const UniqueFd write_end(ends[1]);
        const BorrowedFd sent = write_end.borrow();
        if (!notify_service_manager("BARRIER=1", std::span(&sent, 1))) return false;
    }
    // The manager closes the descriptor when it comes to that message.
    pollfd closed{.fd = read_end.number(), .events = 0, .revents = 0};
    return ::poll(&closed, 1, static_cast<int>(timeout.count())) == 1;
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
