// SPDX-License-Identifier: MIT
// Repeats bounds how much is told of events that come without end. In each interval the first events of a kind stand for
// themselves. The others are counted; when the interval is over, the first of these is told with their number. Failures,
// sessions, rejected connections and log messages that repeat all use it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace fdbroker::opener {

// An Example is made from the first event of a kind. `is_like(event)` says whether another event is of that kind;
// `keep(event)` copies the event that is told with the count.
template <typename Example>
class Repeats {
  public:
    using Clock = std::chrono::steady_clock;

    struct Bounds {
        unsigned whole;     // events of a kind that stand for themselves in an interval
        std::size_t kinds;  // kinds that are told apart at a time
        Clock::duration interval{std::chrono::seconds(1)};
    };
    explicit Repeats(const Bounds& bounds) : bounds_(bounds) {}

    // True: the event stands for itself. False: it is counted, as `count` events. `tell(example, count)` is called for
    // counts whose interval is over, and for a kind whose place is needed.
    template <typename Event, typename Tell>
    bool stands_alone(const Event& event, Clock::time_point now, Tell tell, std::uint64_t count = 1) {
        Kind& kind = kind_of(event, now, tell);
        if (kind.whole < bounds_.whole) {
            ++kind.whole;
            return true;
        }
        if (kind.counted == 0) {
            kind.example.keep(event);
            due_ = std::min(due_.value_or(Clock::time_point::max()), kind.since + bounds_.interval);
        }
        kind.counted += count;
        return false;
    }

    // Tells the counts of all kinds whose interval is over.
    template <typename Tell>
    void settle(Clock::time_point now, Tell tell) {
        due_.reset();
        for (Kind& kind : kinds_) {
            if (kind.counted == 0) continue;
            if (is_over(kind, now)) {
                end(kind, tell);
            } else {
                due_ = std::min(due_.value_or(Clock::time_point::max()), kind.since + bounds_.interval);
            }
        }
    }
    // The time at which settle() has something to tell.
    std::optional<Clock::time_point> due() const noexcept { return due_; }

  private:
    struct Kind {
        Example example;
        Clock::time_point since{};
        unsigned whole = 0;
        std::uint64_t counted = 0;
    };

    bool is_over(const Kind& kind, Clock::time_point now) const noexcept {
        return now - kind.since >= bounds_.interval;
    }
    template <typename Tell>
    static void end(Kind& kind, Tell& tell) {
        if (const std::uint64_t counted = std::exchange(kind.counted, 0); counted != 0)
            tell(kind.example, counted);
    }
    template <typename Event, typename Tell>
    Kind& kind_of(const Event& event, Clock::time_point now, Tell& tell) {
        const auto known =
            std::ranges::find_if(kinds_, [&](const Kind& kind) { return kind.example.is_like(event); });
        if (known != kinds_.end()) {
            if (!is_over(*known, now)) return *known;
            end(*known, tell);
            known->since = now;
            known->whole = 0;
            return *known;
        }
        if (kinds_.size() < bounds_.kinds)
            return kinds_.emplace_back(Kind{.example = Example(event), .since = now});
        Kind& oldest = *std::ranges::min_element(kinds_, {}, &Kind::since);
        end(oldest, tell);
        oldest = Kind{.example = Example(event), .since = now};
        return oldest;
    }

    Bounds bounds_;
    std::vector<Kind> kinds_{};
    std::optional<Clock::time_point> due_{};
};

}  // namespace fdbroker::opener
