// SPDX-License-Identifier: MIT
// Whose turn it is: users take turns, and the sessions of a user share his.
//
// In each round a user may have Session::requests_per_turn requests answered, over any number of connections. Requests of a
// message above that come off the user's next rounds (a deficit round robin). So a single request waits for a round at most,
// however many requests others have under way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>

#include "opener/broker/session.hpp"
#include "opener/quota/user_quota.hpp"

namespace fdbroker::opener {

class RoundRobin {
  public:
    bool empty() const noexcept { return users_.empty(); }

    // Something has happened to it; nothing when it waits for its turn already.
    void add(Session& session) {
        if (session.has_turn) return;
        session.has_turn = true;
        UserQuota& user = session.quota();
        if (user.ready.empty()) users_.push_back(&user);
        user.ready.push_back(&session);
    }
    void remove(Session& session) {
        if (!session.has_turn) return;
        session.has_turn = false;
        UserQuota& user = session.quota();
        std::erase(user.ready, &session);
        if (user.ready.empty()) forget(user);
    }

    // Runs a round. `before` is called before every session is, and may remove any; `serve` returns how many requests it has
    // answered, and may add and remove any.
    template <typename Before, typename Serve>
    void round(Before before, Serve serve) {
        for (std::size_t users = users_.size(); users > 0 && !users_.empty(); --users) {
            UserQuota& user = *users_.front();
            // Whoever is alone keeps nobody waiting.
            if (users_.size() == 1) user.credit = 0;
            user.credit += static_cast<std::ptrdiff_t>(Session::requests_per_turn);
            while (user.credit > 0) {
                before();
                if (user.ready.empty()) break;
                Session& session = *user.ready.front();
                user.ready.pop_front();
                session.has_turn = false;
                user.credit -= static_cast<std::ptrdiff_t>(serve(session));
            }
            if (user.ready.empty()) {
                forget(user);
            } else if (users_.front() == &user) {
                users_.pop_front();
                users_.push_back(&user);
            }
        }
    }

  private:
    void forget(UserQuota& user) {
        user.credit = 0;
        std::erase(users_, &user);
    }

    std::deque<UserQuota*> users_{};  // with sessions that wait for their turn
};

}  // namespace fdbroker::opener
