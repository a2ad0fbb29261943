// SPDX-License-Identifier: MIT
// How the broker waits for the next message: it looks for a while before it sleeps, while peers on other CPUs ask
// again soon after each answer (proto/busy_poll.hpp). A broker that nobody asks sleeps, and reads no clock.
#pragma once

#include <sched.h>

#include <chrono>
#include <cstdint>
#include <utility>

#include "proto/busy_poll.hpp"

namespace fdbroker::opener {

class BusyWait {
  public:
    using Clock = std::chrono::steady_clock;

    // `limit`: of the time that a single wait may look before it sleeps; 0: every wait sleeps at once.
    explicit BusyWait(std::chrono::microseconds limit) noexcept : history_(limit) {}

    bool is_off() const noexcept { return history_.shortness().count() == 0; }

    // A message has come whose sender ran on that CPU (proto::unknown_cpu: another one). A sender on the broker's own CPU
    // can ask for nothing while the broker looks.
    void asked(std::uint16_t cpu) noexcept { has_distant_peer_ = cpu != ::sched_getcpu(); }

    // Until something comes. `look` takes what is there without waiting, and returns whether that was anything; `sleep`
    // waits as long as it takes.
    template <typename Look, typename Sleep>
    void wait(Look look, Sleep sleep) {
        // The next message tells again: what wakes the broker besides is no peer's to hurry.
        if (!std::exchange(has_distant_peer_, false) || is_off()) return fall_asleep(sleep);
        const auto began = Clock::now();
        if (history_.are_short() && began >= rest_until_ && look_for_a_while(began, look)) return;
        fall_asleep(sleep);
        history_.add(Clock::now() - began);
    }

    // Waits that ended without sleeping, and those that slept.
    struct Counts {
        std::uint64_t awake = 0;
        std::uint64_t asleep = 0;
    };
    const Counts& counts() const noexcept { return counts_; }

  private:
    // How long a CPU that other programs want is left to them.
    static constexpr std::chrono::milliseconds rest{100};

    template <typename Sleep>
    void fall_asleep(Sleep sleep) {
        ++counts_.asleep;
        sleep();
    }
    template <typename Look>
    bool look_for_a_while(Clock::time_point began, Look look) {
        for (auto now = began; now - began < history_.shortness();) {
            if (look()) {
                ++counts_.awake;
                history_.add(now - began);
                return true;
            }
            ::sched_yield();
            const auto before = std::exchange(now, Clock::now());
            if (now - before < proto::long_yield) continue;
            history_.forget();
            rest_until_ = now + rest;
            break;
        }
        return false;
    }

    proto::WaitHistory history_;
    bool has_distant_peer_ = false;
    Clock::time_point rest_until_{};  // other programs want the CPU
    Counts counts_{};
};

}  // namespace fdbroker::opener
