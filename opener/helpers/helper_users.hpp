// SPDX-License-Identifier: MIT
// The users of helpers: the tasks of each that wait for one, whose turn it is, and how much each may have of helpers and of
// background work (helper_limits.hpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "opener/helpers/helper_task.hpp"

namespace fdbroker::opener {

class HelperUsers {
  public:
    using Clock = std::chrono::steady_clock;

    // Whether a task with so many requests may be added. For a user who has none, take_surplus() makes room afterwards.
    bool has_room(std::uint32_t uid, std::size_t requests) const noexcept;
    // Counts a task and its requests until settle().
    void add(const HelperTask& task);
    void settle(const HelperTask& task);
    std::size_t tasks() const noexcept { return tasks_; }
    std::size_t requests() const noexcept { return requests_; }

    // Keeps an added task until it is taken.
    void wait(std::unique_ptr<HelperTask> task);
    std::size_t waiting() const noexcept { return waiting_.size(); }
    // Some task must wait.
    Clock::time_point first_deadline() const noexcept { return waiting_.begin()->first; }
    std::unique_ptr<HelperTask> take(const HelperTask& task);
    // Each null if there is none: a task whose deadline has passed; the last one of the user who has most requests, where
    // there are too many in all; any.
    std::unique_ptr<HelperTask> take_expired(Clock::time_point now);
    std::unique_ptr<HelperTask> take_surplus();
    std::unique_ptr<HelperTask> take_any();
    std::vector<std::unique_ptr<HelperTask>> take_of(ConnectionId session);

    // The task to which the next free helper goes; null: none waits that may have one.
    HelperTask* next() const noexcept;
    // Helpers that tasks wait for and may have.
    std::size_t wanted_helpers() const noexcept;
    // A helper works for this task's user, until stop() or begin_background(). Keeps a place if the task allows background
    // work.
    void begin(const HelperTask& task);
    void stop(std::uint32_t uid);

    // Whether the user's next task gets a place for background work. A user who has none always does:
    // HelperPool::begin_background() makes room, since few tasks last.
    bool has_room_for_background(std::uint32_t uid) const noexcept;
    void begin_background(std::uint32_t uid);
    // The work no longer counts for the user, but goes on for a moment.
    void give_way(std::uint32_t uid);
    void end_background(std::uint32_t uid, bool gave_way);
    std::size_t background() const noexcept { return background_; }
    std::size_t background_of(std::uint32_t uid) const { return users_.at(uid).background; }
    bool has_too_much_background() const noexcept;

  private:
    struct User {
        std::deque<std::unique_ptr<HelperTask>> waiting{};
        std::size_t requests = 0;    // waiting or with a helper, not ended
        std::size_t helpers = 0;     // at work for it, or stuck
        std::size_t background = 0;  // that are, or may come to be, without those that give way

        bool is_idle() const noexcept { return requests == 0 && helpers == 0 && background == 0; }
    };
    using Users = std::map<std::uint32_t, User>;

    bool may_have_helper(const User& user) const noexcept;
    void forget_if_idle(Users::iterator user);

    Users users_{};
    std::set<std::pair<Clock::time_point, const HelperTask*>> waiting_{};  // by their deadlines
    std::uint32_t last_served_ = 0;                                        // the user who got a helper last
    std::size_t tasks_ = 0;
    std::size_t requests_ = 0;
    std::size_t at_work_ = 0;              // helpers, over all users
    std::size_t background_ = 0;           // helpers, over all users
    std::size_t giving_way_ = 0;           // background helpers that end for another user
    std::size_t reserved_background_ = 0;  // tasks for which a place is kept
};

}  // namespace fdbroker::opener
