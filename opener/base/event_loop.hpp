// SPDX-License-Identifier: MIT
// epoll(7) for the two loops of the opener.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class EventLoop {
  public:
    static proto::Result<EventLoop> create() {
        EventLoop loop;
        loop.epoll_ = proto::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
        if (!loop.epoll_) return proto::system_error("epoll_create1");
        return loop;
    }

    proto::BorrowedFd descriptor() const noexcept { return epoll_.borrow(); }

    // `tag` comes back with every event of `fd`, which stays the caller's. `events`: EPOLLIN, EPOLLOUT.
    proto::Result<void> add(proto::BorrowedFd fd, std::uint32_t events, void* tag) {
        return control(EPOLL_CTL_ADD, fd, events, tag);
    }
    proto::Result<void> change(proto::BorrowedFd fd, std::uint32_t events, void* tag) {
        return control(EPOLL_CTL_MOD, fd, events, tag);
    }
    // change(), or add() where `fd` is not there.
    proto::Result<void> set(proto::BorrowedFd fd, std::uint32_t events, void* tag) {
        auto changed = change(fd, events, tag);
        return changed || changed.error().errno_value != ENOENT ? changed : add(fd, events, tag);
    }
    // Must come before the last descriptor of `fd`'s file is closed here: another process may hold it open, and then its
    // events would go on.
    void remove(proto::BorrowedFd fd) noexcept {
        ::epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, fd.number(), nullptr);
    }

    // The events that are there, after at most `timeout_ms` (-1: as long as it takes); none on a signal. Valid until
    // the next call.
    std::span<const epoll_event> wait(int timeout_ms) noexcept {
        const int count =
            ::epoll_wait(epoll_.number(), events_.data(), static_cast<int>(events_.size()), timeout_ms);
        return std::span(events_).first(count > 0 ? static_cast<std::size_t>(count) : 0);
    }

  private:
    EventLoop() = default;
    proto::Result<void> control(int operation, proto::BorrowedFd fd, std::uint32_t events, void* tag) {
        epoll_event event{};
        event.events = events;
        event.data.ptr = tag;
        if (::epoll_ctl(epoll_.number(), operation, fd.number(), &event) != 0)
            return proto::system_error("epoll_ctl");
        return {};
    }

    proto::UniqueFd epoll_;
    std::array<epoll_event, 64> events_{};
};

}  // namespace fdbroker::opener
