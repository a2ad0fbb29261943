// SPDX-License-Identifier: MIT
// The loop of a process of the opener: descriptors that are watched, and timers. epoll(7) is seen by event_loop.cpp alone.
//
// A Source and a Timer are handles: their ends unregister them, also from within a callback. One thread uses a loop with
// all its handles, and the loop outlives them. A callback may watch, change and end anything, but runs no loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A set; the bits of epoll_ctl(2).
enum class Events : std::uint32_t {
    none = 0,
    readable = 0x001,
    writable = 0x004,
    hung_up = 0x010,      // both ends are shut down; told whether asked for or not
    peer_ended = 0x2000,  // the other end is shut down for writing
    edge = 0x8000'0000U,  // told when something changes, not as long as it holds
};
constexpr Events operator|(Events one, Events other) noexcept {
    return static_cast<Events>(static_cast<std::uint32_t>(one) | static_cast<std::uint32_t>(other));
}
constexpr bool has(Events set, Events one) noexcept {
    return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(one)) != 0;
}

// A descriptor that a loop watches. Ends before the descriptor is closed: another process may hold the file open, and
// epoll would go on telling of it.
class Source {
  public:
    Source() noexcept;  // watches nothing
    Source(Source&& other) noexcept;
    Source& operator=(Source&& other) noexcept;
    ~Source();
    explicit operator bool() const noexcept { return watch_ != nullptr; }

    // Events::none: nothing is told until the next set(), not even that the peer hung up. An empty source ignores it.
    proto::Result<void> set(Events events);
    void end() noexcept;

  private:
    friend class EventLoop;
    struct Watch;
    explicit Source(std::unique_ptr<Watch> watch) noexcept;
    std::unique_ptr<Watch> watch_;
};

// Calls once at a time, then rests until it is set again.
class Timer {
  public:
    using Clock = std::chrono::steady_clock;

    Timer() noexcept;  // has no loop, and must not be set
    Timer(Timer&& other) noexcept;
    Timer& operator=(Timer&& other) noexcept;
    ~Timer();

    // A time that has passed: in the loop's next turn, or in this one while its timers have not been run.
    void set(Clock::time_point when);
    void set_after(Clock::duration delay) { set(Clock::now() + delay); }
    // As set(), unless it is due before.
    void set_by(Clock::time_point when);
    void stop() noexcept;
    // nullopt: it rests.
    std::optional<Clock::time_point> due() const noexcept;

  private:
    friend class EventLoop;
    struct Alarm;
    void end() noexcept;
    explicit Timer(std::unique_ptr<Alarm> alarm) noexcept;
    std::unique_ptr<Alarm> alarm_;
};

class EventLoop {
  public:
    using Clock = std::chrono::steady_clock;
    using OnEvents = std::function<void(Events)>;
    using OnTime = std::function<void(Clock::time_point now)>;

    static proto::Result<EventLoop> create();
    EventLoop(EventLoop&& other) noexcept;
    EventLoop& operator=(EventLoop&&) = delete;
    ~EventLoop();

    proto::BorrowedFd descriptor() const noexcept;

    // `fd` stays the caller's, and open as long as the Source watches it.
    [[nodiscard]] proto::Result<Source> watch(proto::BorrowedFd fd, Events events, OnEvents callback);
    [[nodiscard]] Timer timer(OnTime callback);

    enum class Wait : std::uint8_t { never, for_something };
    // Calls back for each event that is there, at most 64 in a turn; for_something: after one has come, a signal was
    // handled, or the next timer is due. Runs no timers. Returns whether an event has come.
    bool wait(Wait wait);
    // Calls back for each timer that is due by `now`, the earliest first; those set meanwhile have to wait for the next
    // call. Without `now` the clock is asked only if a timer is set at all.
    void run_timers();
    void run_timers(Clock::time_point now);
    // nullopt: no timer is set.
    std::optional<Clock::time_point> next_timer() const noexcept;

  private:
    friend class Source;
    friend class Timer;
    struct State;
    explicit EventLoop(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace fdbroker::opener
