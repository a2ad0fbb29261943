// SPDX-License-Identifier: MIT
#include "opener/helpers/helper_users.hpp"

#include <algorithm>

#include "opener/quota/helper_limits.hpp"

namespace fdbroker::opener {

// ---- tasks ---------------------------------------------------------------------------------------------

bool HelperUsers::has_room(std::uint32_t uid, std::size_t requests) const noexcept {
    const auto user = users_.find(uid);
    const std::size_t of_user = user == users_.end() ? 0 : user->second.requests;
    const std::size_t wanted = of_user + requests;
    const bool has_share =
        wanted <= max_helper_requests_of_user && may_take(wanted - 1, requests_, max_helper_requests);
    const bool is_newcomer =
        of_user == 0 && requests_ + requests <= max_helper_requests + max_requests_of_newcomers;
    return has_share || is_newcomer;
}

void HelperUsers::add(const HelperTask& task) {
    users_[task.uid].requests += task.parts.size();
    requests_ += task.parts.size();
    ++tasks_;
}

void HelperUsers::settle(const HelperTask& task) {
    const auto user = users_.find(task.uid);
    user->second.requests -= task.parts.size();
    requests_ -= task.parts.size();
    --tasks_;
    if (task.allows_background) {
        --user->second.background;
        --reserved_background_;
    }
    forget_if_idle(user);
}

void HelperUsers::forget_if_idle(Users::iterator user) {
    if (user->second.is_idle()) users_.erase(user);
}

void HelperUsers::wait(std::unique_ptr<HelperTask> task) {
    waiting_.emplace(task->deadline, task.get());
    users_[task->uid].waiting.push_back(std::move(task));
}

std::unique_ptr<HelperTask> HelperUsers::take(const HelperTask& task) {
    waiting_.erase({task.deadline, &task});
    auto& waiting = users_.at(task.uid).waiting;
    const auto found = std::ranges::find(waiting, &task, &std::unique_ptr<HelperTask>::get);
    auto taken = std::move(*found);
    waiting.erase(found);
    return taken;
}

std::unique_ptr<HelperTask> HelperUsers::take_expired(Clock::time_point now) {
    return waiting_.empty() || first_deadline() > now ? nullptr : take(*waiting_.begin()->second);
}

std::unique_ptr<HelperTask> HelperUsers::take_any() {
    return waiting_.empty() ? nullptr : take(*waiting_.begin()->second);
}

std::unique_ptr<HelperTask> HelperUsers::take_surplus() {
    if (requests_ <= max_helper_requests) return nullptr;
    auto most = users_.end();
    for (auto user = users_.begin(); user != users_.end(); ++user) {
        const bool is_more = most == users_.end() || user->second.requests > most->second.requests;
        if (!user->second.waiting.empty() && is_more) most = user;
    }
    return most == users_.end() ? nullptr : take(*most->second.waiting.back());
}

std::vector<std::unique_ptr<HelperTask>> HelperUsers::take_of(ConnectionId session) {
    std::vector<std::unique_ptr<HelperTask>> taken;
    for (auto& [uid, user] : users_) {
        for (auto& task : user.waiting) {
            if (task->connection_id != session) continue;
            waiting_.erase({task->deadline, task.get()});
            taken.push_back(std::move(task));
        }
        std::erase(user.waiting, nullptr);
    }
    return taken;
}

// ---- who is next ---------------------------------------------------------------------------------------

bool HelperUsers::may_have_helper(const User& user) const noexcept {
    return !user.waiting.empty() && user.helpers < max_helpers_of_user &&
           may_take(user.helpers, at_work_, max_helpers);
}

// Users take turns, so that one who has a thousand tasks delays another's by one of each helper.
HelperTask* HelperUsers::next() const noexcept {
    const auto may = [this](const auto& entry) { return may_have_helper(entry.second); };
    auto found = std::find_if(users_.upper_bound(last_served_), users_.end(), may);
    if (found == users_.end()) found = std::ranges::find_if(users_, may);
    return found == users_.end() ? nullptr : found->second.waiting.front().get();
}

std::size_t HelperUsers::wanted_helpers() const noexcept {
    std::size_t wanted = 0;
    for (const auto& [uid, user] : users_) {
        if (may_have_helper(user))
            wanted += std::min(user.waiting.size(), max_helpers_of_user - user.helpers);
    }
    return wanted;
}

void HelperUsers::begin(const HelperTask& task) {
    last_served_ = task.uid;
    User& user = users_.at(task.uid);
    ++user.helpers;
    ++at_work_;
    if (!task.allows_background) return;
    ++user.background;
    ++reserved_background_;
}

void HelperUsers::stop(std::uint32_t uid) {
    const auto user = users_.find(uid);
    --user->second.helpers;
    --at_work_;
    forget_if_idle(user);
}

// ---- background work -----------------------------------------------------------------------------------

bool HelperUsers::has_room_for_background(std::uint32_t uid) const noexcept {
    const std::size_t of_user = background_of(uid);
    const std::size_t taken = background_ - giving_way_ + reserved_background_;
    return of_user == 0 ||
           (of_user < max_background_helpers_of_user && may_take(of_user, taken, max_background_helpers));
}

void HelperUsers::begin_background(std::uint32_t uid) {
    User& user = users_.at(uid);
    --user.helpers;
    --at_work_;
    ++user.background;
    ++background_;
}

void HelperUsers::give_way(std::uint32_t uid) {
    const auto user = users_.find(uid);
    --user->second.background;
    ++giving_way_;
    forget_if_idle(user);
}

void HelperUsers::end_background(std::uint32_t uid, bool gave_way) {
    --background_;
    if (gave_way) {
        --giving_way_;
        return;
    }
    const auto user = users_.find(uid);
    --user->second.background;
    forget_if_idle(user);
}

bool HelperUsers::has_too_much_background() const noexcept {
    return background_ - giving_way_ > max_background_helpers;
}

}  // namespace fdbroker::opener
