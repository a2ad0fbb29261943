// SPDX-License-Identifier: MIT
// The control socket while no generation serves, or the one that should stands still: clients are told why, and do not
// wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "opener/base/event_loop.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/generation_manager.hpp"

namespace fdbroker::opener {

class UnservedControl {
  public:
    using Clock = std::chrono::steady_clock;

    // `why` tells the reason in words.
    UnservedControl(ConnectionTable& connections, GenerationManager& generations, EventLoop& loop,
                    std::function<std::string()> why);
    UnservedControl(const UnservedControl&) = delete;
    UnservedControl& operator=(const UnservedControl&) = delete;

    // For when the state of generations may have changed.
    void update();
    // A control connection is on its way to the generation that serves, which is pinged behind it: its loop may stand
    // still.
    void handed_on();
    void answered(std::uint64_t ping) {
        if (ping_ && ping >= ping_->number) ping_.reset();
    }
    // Another generation serves.
    void activated() noexcept { ping_.reset(); }
    // Whether clients that connect now are answered at once, by answer().
    bool answers() const noexcept;
    std::string answer() const;

  private:
    void answer_all(Clock::time_point now);

    // Sent and not answered yet.
    struct SentPing {
        std::uint64_t number;
        Clock::time_point sent;
    };
    ConnectionTable& connections_;
    GenerationManager& generations_;
    std::function<std::string()> why_;
    std::optional<SentPing> ping_{};
    std::optional<Clock::time_point> since_{};
    Timer timer_;
};

}  // namespace fdbroker::opener
