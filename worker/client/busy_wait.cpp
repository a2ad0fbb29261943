// SPDX-License-Identifier: MIT
#include "worker/client/busy_wait.hpp"

#include <algorithm>

namespace fdbroker::worker {

void BusyWait::ask(Clock::time_point now) noexcept {
    asked_at_ = now;
    budget_ = {};
    dense_ = answers_.is_short(now - answered_at_) ? std::min(dense_ + 1, dense_after) : 0;
    if (dense_ < dense_after) return;
    if (answers_.are_short()) {
        budget_ = answers_.shortness();
    } else if (pause_left_ != 0) {
        --pause_left_;
    } else {
        budget_ = answers_.shortness() * trial_factor;
    }
}

void BusyWait::answered(Clock::time_point now) noexcept {
    answered_at_ = now;
    if (budget_.count() == 0) return;
    const bool tried = !answers_.are_short();
    answers_.add(now - asked_at_);
    if (answers_.are_short()) {
        trials_left_ = trials;
        if (!tried) next_pause_ = least_pause;
    } else if (!tried || --trials_left_ == 0) {
        pause();
    }
}

void BusyWait::disturbed() noexcept {
    answers_.forget();
    pause();
    budget_ = {};
}

void BusyWait::pause() noexcept {
    trials_left_ = trials;
    pause_left_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, longest_pause);
}

}  // namespace fdbroker::worker
