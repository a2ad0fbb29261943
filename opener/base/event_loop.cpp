// SPDX-License-Identifier: MIT
#include "opener/base/event_loop.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

constexpr std::uint32_t bits(Events events) noexcept {
    return static_cast<std::uint32_t>(events);
}
static_assert(bits(Events::readable) == EPOLLIN && bits(Events::writable) == EPOLLOUT &&
              bits(Events::hung_up) == EPOLLHUP && bits(Events::peer_ended) == EPOLLRDHUP &&
              bits(Events::edge) == std::uint32_t{EPOLLET});

constexpr std::size_t not_set = std::numeric_limits<std::size_t>::max();

}  // namespace

struct Source::Watch {
    EventLoop::State& loop;
    BorrowedFd fd;
    EventLoop::OnEvents callback;
    Events events = Events::none;

    Result<void> set(Events wanted);
};

struct Timer::Alarm {
    EventLoop::State& loop;
    EventLoop::OnTime callback;
    Clock::time_point due{};
    std::size_t index = not_set;  // among those that are set
};

struct EventLoop::State {
    UniqueFd epoll;
    std::array<epoll_event, 64> events{};
    // The part of `events` whose callbacks are still to come.
    std::span<epoll_event> pending{};
    Source::Watch* running = nullptr;
    std::unique_ptr<Source::Watch> ended{};  // while it is running

    std::vector<Timer::Alarm*> set{};
    std::vector<Timer::Alarm*> due{};  // those that are being run; null: ended meanwhile
    Timer::Alarm* ringing = nullptr;
    std::unique_ptr<Timer::Alarm> ended_alarm{};  // while it is ringing

    void drop_pending(const Source::Watch* watch) noexcept {
        for (epoll_event& event : pending)
            if (event.data.ptr == watch) event.data.ptr = nullptr;
    }
    void forget(std::unique_ptr<Source::Watch> watch) noexcept {
        static_cast<void>(watch->set(Events::none));
        if (watch.get() == running) ended = std::move(watch);
    }
    void stop(Timer::Alarm& alarm) noexcept {
        if (alarm.index == not_set) return;
        set[alarm.index] = set.back();
        set[alarm.index]->index = alarm.index;
        set.pop_back();
        alarm.index = not_set;
    }
    void forget(std::unique_ptr<Timer::Alarm> alarm) noexcept {
        stop(*alarm);
        std::ranges::replace(due, alarm.get(), nullptr);
        if (alarm.get() == ringing) ended_alarm = std::move(alarm);
    }
    std::optional<Clock::time_point> next() const noexcept {
        if (set.empty()) return std::nullopt;
        return (*std::ranges::min_element(set, {}, &Timer::Alarm::due))->due;
    }
    // For epoll_wait(2), in milliseconds.
    int timeout() const noexcept {
        const auto soonest = next();
        if (!soonest) return -1;
        const auto now = Clock::now();
        if (*soonest <= now) return 0;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*soonest - now).count();
        return static_cast<int>(std::min<std::int64_t>(left, std::numeric_limits<int>::max()));
    }
};

// ---- sources -------------------------------------------------------------------------------------------

Result<void> Source::Watch::set(Events wanted) {
    if (wanted == events) return {};
    int operation = EPOLL_CTL_MOD;
    if (events == Events::none) operation = EPOLL_CTL_ADD;
    if (wanted == Events::none) operation = EPOLL_CTL_DEL;
    epoll_event event{};
    event.events = bits(wanted);
    event.data.ptr = this;
    if (wanted == Events::none) loop.drop_pending(this);
    if (::epoll_ctl(loop.epoll.number(), operation, fd.number(), &event) != 0)
        return proto::system_error("epoll_ctl");
    events = wanted;
    return {};
}

Source::Source() noexcept = default;
Source::Source(std::unique_ptr<Watch> watch) noexcept : watch_(std::move(watch)) {}
Source::Source(Source&& other) noexcept = default;

Source& Source::operator=(Source&& other) noexcept {
    if (this != &other) {
        end();
        watch_ = std::move(other.watch_);
    }
    return *this;
}

Source::~Source() {
    end();
}

void Source::end() noexcept {
    if (!watch_) return;
    EventLoop::State& loop = watch_->loop;
    loop.forget(std::move(watch_));
}

Result<void> Source::set(Events events) {
    return watch_ ? watch_->set(events) : Result<void>();
}

Result<Source> EventLoop::watch(BorrowedFd fd, Events events, OnEvents callback) {
    auto watch = std::make_unique<Source::Watch>(Source::Watch{*state_, fd, std::move(callback)});
    if (auto set = watch->set(events); !set) return std::unexpected(set.error());
    return Source(std::move(watch));
}

// ---- timers --------------------------------------------------------------------------------------------

Timer::Timer() noexcept = default;
Timer::Timer(std::unique_ptr<Alarm> alarm) noexcept : alarm_(std::move(alarm)) {}
Timer::Timer(Timer&& other) noexcept = default;

Timer& Timer::operator=(Timer&& other) noexcept {
    if (this != &other) {
        end();
        alarm_ = std::move(other.alarm_);
    }
    return *this;
}

Timer::~Timer() {
    end();
}

void Timer::end() noexcept {
    if (!alarm_) return;
    EventLoop::State& loop = alarm_->loop;
    loop.forget(std::move(alarm_));
}

void Timer::set(Clock::time_point when) {
    alarm_->due = when;
    if (alarm_->index != not_set) return;
    alarm_->index = alarm_->loop.set.size();
    alarm_->loop.set.push_back(alarm_.get());
}

void Timer::set_by(Clock::time_point when) {
    if (alarm_->index == not_set || when < alarm_->due) set(when);
}

void Timer::stop() noexcept {
    if (alarm_) alarm_->loop.stop(*alarm_);
}

std::optional<Timer::Clock::time_point> Timer::due() const noexcept {
    if (!alarm_ || alarm_->index == not_set) return std::nullopt;
    return alarm_->due;
}

Timer EventLoop::timer(OnTime callback) {
    return Timer(std::make_unique<Timer::Alarm>(Timer::Alarm{*state_, std::move(callback)}));
}

// ---- the loop ------------------------------------------------------------------------------------------

EventLoop::EventLoop(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
EventLoop::EventLoop(EventLoop&& other) noexcept = default;
EventLoop::~EventLoop() = default;

Result<EventLoop> EventLoop::create() {
    auto state = std::make_unique<State>();
    state->epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!state->epoll) return proto::system_error("epoll_create1");
    return EventLoop(std::move(state));
}

BorrowedFd EventLoop::descriptor() const noexcept {
    return state_->epoll.borrow();
}

bool EventLoop::wait(Wait wait) {
    State& state = *state_;
    const int count =
        ::epoll_wait(state.epoll.number(), state.events.data(), static_cast<int>(state.events.size()),
                     wait == Wait::never ? 0 : state.timeout());
    state.pending = std::span(state.events).first(count > 0 ? static_cast<std::size_t>(count) : 0);
    while (!state.pending.empty()) {
        const epoll_event event = state.pending.front();
        state.pending = state.pending.subspan(1);
        state.running = static_cast<Source::Watch*>(event.data.ptr);
        if (state.running == nullptr) continue;
        state.running->callback(static_cast<Events>(event.events));
        state.running = nullptr;
        state.ended.reset();
    }
    return count > 0;
}

void EventLoop::run_timers() {
    if (!state_->set.empty()) run_timers(Clock::now());
}

void EventLoop::run_timers(Clock::time_point now) {
    State& state = *state_;
    state.due.clear();
    for (Timer::Alarm* const alarm : state.set)
        if (alarm->due <= now) state.due.push_back(alarm);
    std::ranges::sort(state.due, {}, &Timer::Alarm::due);
    for (std::size_t i = 0; i < state.due.size(); ++i) {
        state.ringing = state.due[i];
        // An earlier one's callback may have ended, stopped or postponed it.
        if (state.ringing == nullptr || state.ringing->index == not_set || state.ringing->due > now) continue;
        state.stop(*state.ringing);
        state.ringing->callback(now);
        state.ringing = nullptr;
        state.ended_alarm.reset();
    }
    state.due.clear();
}

std::optional<EventLoop::Clock::time_point> EventLoop::next_timer() const noexcept {
    return state_->next();
}

}  // namespace fdbroker::opener
