// SPDX-License-Identifier: MIT
// A task from its coming to its helper, and who is next.
#include <sys/socket.h>

#include <algorithm>

#include "opener/helpers/helper_pool.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;

namespace {

// Any byte asks a zygote for a helper.
constexpr std::byte order{1};

constexpr const char* no_room_on_channel = "too many descriptors are on their way to peers; it was not begun";

}  // namespace

// ---- tasks ---------------------------------------------------------------------------------------------

bool HelperPool::has_room(std::uint32_t uid, std::size_t requests) {
    const auto user = users_.find(uid);
    const std::size_t of_user = user == users_.end() ? 0 : user->second.requests;
    const std::size_t wanted = of_user + requests;
    const bool has_share =
        wanted <= max_helper_requests_of_user && may_take(wanted - 1, requests_, max_helper_requests);
    const bool is_newcomer =
        of_user == 0 && requests_ + requests <= max_helper_requests + max_requests_of_newcomers;
    if (has_share || is_newcomer) return true;
    ++counters_.refused;
    return false;
}

void HelperPool::submit(std::unique_ptr<HelperTask> task) {
    User& user = users_[task->uid];
    user.requests += task->parts.size();
    requests_ += task->parts.size();
    ++unfinished_;
    due_ = Clock::time_point::min();
    if (task->continues != 0) {
        helper_with(task->continues)->further.push_back(std::move(task));
        return;
    }
    waiting_.emplace(task->deadline, task.get());
    user.waiting.push_back(std::move(task));
}

// Of the user who has most requests, the task that came last and was not begun.
bool HelperPool::give_way() {
    auto most = users_.end();
    for (auto user = users_.begin(); user != users_.end(); ++user) {
        const bool is_more = most == users_.end() || user->second.requests > most->second.requests;
        if (!user->second.waiting.empty() && is_more) most = user;
    }
    if (most == users_.end()) return false;
    auto task = std::move(most->second.waiting.back());
    most->second.waiting.pop_back();
    waiting_.erase({task->deadline, task.get()});
    ++counters_.refused;
    end_task(std::move(task), EAGAIN, "others need the place; it was not begun");
    return true;
}

HelperPool::Helper* HelperPool::helper_with(std::uint64_t number) const noexcept {
    const auto has_it = [number](const auto& helper) {
        // A peer that has its reply may be faster than the helper, which tells that it has sent it.
        const bool is_about_to =
            helper->task && helper->task->may_last && helper->state == Helper::State::delivering;
        return helper->lasting == number || (is_about_to && helper->task->number == number);
    };
    const auto found = std::ranges::find_if(helpers_, has_it);
    return number == 0 || found == helpers_.end() ? nullptr : found->get();
}

bool HelperPool::can_continue(std::uint64_t number, ConnectionId session) const noexcept {
    const Helper* const helper = helper_with(number);
    return helper != nullptr && helper->session == session && helper->state != Helper::State::closing &&
           !helper->gives_way;
}

// The end of a task, whatever it was, as far as the pool's own counts go.
void HelperPool::settle(const HelperTask& task) {
    for (const HelperTask::Part& part : task.parts) InflightLog::release(*part.slot);
    const auto user = users_.find(task.uid);
    user->second.requests -= task.parts.size();
    requests_ -= task.parts.size();
    --unfinished_;
    if (task.may_last) {
        --user->second.lasting;
        --may_last_;
    }
    if (user->second.is_idle()) users_.erase(user);
}

void HelperPool::end_task(std::unique_ptr<HelperTask> task, int errno_value, const char* reason) {
    owner_->failed(*task, errno_value, reason);
    settle(*task);
}

void HelperPool::forget(ConnectionId session) {
    std::vector<std::unique_ptr<HelperTask>> ended;
    for (auto& [uid, user] : users_) {
        for (auto& task : user.waiting) {
            if (task->token != session) continue;
            waiting_.erase({task->deadline, task.get()});
            ended.push_back(std::move(task));
        }
        std::erase(user.waiting, nullptr);
    }
    constexpr const char* reason = "the session ended before a helper was free for it";
    for (auto& task : ended) end_task(std::move(task), ECANCELED, reason);
    for (const auto& helper : helpers_) {
        end_further(*helper, ECANCELED, reason,
                    [&](const HelperTask& task) { return task.token == session; });
        if (helper->state == Helper::State::idle || helper->session != session) continue;
        // One that works has the time of its task first.
        if (!std::exchange(helper->ends, true) && helper->state == Helper::State::lasting)
            helper->due = Clock::now() + helper_close_timeout;
    }
    look_ahead();
}

void HelperPool::end_puts() {
    puts_end_ = true;
    std::vector<Helper*> ended;
    for (const auto& helper : helpers_)
        if (helper->puts && helper->state == Helper::State::lasting && helper->further.empty())
            ended.push_back(helper.get());
    for (Helper* const helper : ended) {
        helper->errno_value = 0;
        lose(*helper);
    }
}

void HelperPool::abandon(int errno_value, const char* reason) {
    while (!waiting_.empty()) {
        User& user = users_[waiting_.begin()->second->uid];
        waiting_.erase({user.waiting.front()->deadline, user.waiting.front().get()});
        auto task = std::move(user.waiting.front());
        user.waiting.pop_front();
        end_task(std::move(task), errno_value, reason);
    }
    for (auto& helper : helpers_) {
        end_further(*helper, errno_value, reason);
        if (!helper->task) continue;
        end_task(std::move(helper->task), errno_value, reason);
        leave_behind(*helper);
    }
    look_ahead();
}

bool HelperPool::end_lasting() {
    bool any = false;
    for (const auto& helper : helpers_) {
        if (helper->lasting == 0 || std::exchange(helper->told_to_end, true)) continue;
        // Its own messages still come: the last one tells how it ended.
        ::shutdown(helper->channel.number(), SHUT_WR);
        any = true;
    }
    return any;
}

// ---- who is next ---------------------------------------------------------------------------------------

bool HelperPool::may_have_helper(const User& user) const noexcept {
    return !user.waiting.empty() && user.helpers < max_helpers_of_user &&
           may_take(user.helpers, at_work_, max_helpers);
}

// Users take turns, so that one who has a thousand tasks delays another's by one of each helper.
HelperPool::Users::iterator HelperPool::next_user() {
    const auto may = [this](const auto& entry) { return may_have_helper(entry.second); };
    const auto after = users_.upper_bound(last_served_);
    const auto found = std::ranges::find_if(after, users_.end(), may);
    return found != users_.end() ? found : std::ranges::find_if(users_, may);
}

void HelperPool::dispatch() {
    assign_to_lasting();
    for (;;) {
        const auto user = next_user();
        if (user == users_.end()) return;
        const auto idle = std::ranges::find(helpers_, Helper::State::idle,
                                            [](const auto& helper) { return helper->state; });
        if (idle == helpers_.end()) return order_helpers();
        last_served_ = user->first;
        assign(**idle, user->second);
    }
}

// A user who has none may always have one: begin_to_last() makes room, since few tasks last.
bool HelperPool::has_room_to_last(const User& user) const noexcept {
    const std::size_t taken = lasting_ - giving_way_ + may_last_;
    return user.lasting == 0 ||
           (user.lasting < max_lasting_helpers_of_user && may_take(user.lasting, taken, max_lasting_helpers));
}

// Of the user who has most streams and puts, the one that has rested for longest is ended.
void HelperPool::end_resting() {
    const auto rank = [this](const Helper& helper) {
        return std::pair(users_.at(helper.uid).lasting, -helper.moved_at.time_since_epoch());
    };
    Helper* resting = nullptr;
    for (const auto& helper : helpers_) {
        const bool rests = helper->state == Helper::State::lasting && helper->further.empty();
        if (!rests || helper->stuck || helper->ends || helper->told_to_end) continue;
        if (resting == nullptr || rank(*helper) > rank(*resting)) resting = helper.get();
    }
    if (resting == nullptr) return;
    ::shutdown(resting->channel.number(), SHUT_WR);
    resting->told_to_end = resting->gives_way = resting->ends = true;
    resting->due = Clock::now() + helper_close_timeout;
    ++giving_way_;
    const auto user = users_.find(resting->uid);
    --user->second.lasting;
    if (user->second.is_idle()) users_.erase(user);
}

void HelperPool::assign(Helper& helper, User& user) {
    HelperTask& task = *user.waiting.front();
    // Every task keeps a place: which will last is known only where its links have been followed.
    const bool may_last = has_room_to_last(user);
    set_may_last(task.message, may_last);
    const auto sent = send(helper, task);
    // The task waits for the next one.
    if (!sent && sent.error().kind == proto::ErrorKind::disconnected) return lose(helper);
    waiting_.erase({task.deadline, &task});
    auto owned = std::move(user.waiting.front());
    user.waiting.pop_front();
    if (!sent) {
        return end_task(std::move(owned), EAGAIN, no_room_on_channel);
    }
    helper.session = task.token;
    helper.uid = task.uid;
    helper.puts = task.parts.front().request.call == proto::Call::put;
    helper.task = std::move(owned);
    ++user.helpers;
    ++at_work_;
    if (!may_last) return;
    task.may_last = true;
    ++user.lasting;
    ++may_last_;
}

void HelperPool::assign_to_lasting() {
    std::vector<Helper*> ready;
    for (const auto& helper : helpers_)
        if (helper->state == Helper::State::lasting && !helper->further.empty())
            ready.push_back(helper.get());
    for (Helper* helper : ready) {
        // The end of an earlier one's may have been the end of their session.
        if (helper->further.empty()) continue;
        helper->task = std::move(helper->further.front());
        helper->further.pop_front();
        const auto sent = send(*helper, *helper->task);
        if (sent) continue;
        if (sent.error().kind == proto::ErrorKind::disconnected) {
            // It was not begun. Why the helper has ended is still to be heard.
            helper->further.push_front(std::move(helper->task));
            hear(*helper);
        } else {
            end_task(std::move(helper->task), EAGAIN, no_room_on_channel);
        }
    }
}

void HelperPool::end_further(Helper& helper, int errno_value, const char* reason,
                             const std::function<bool(const HelperTask&)>& which) {
    std::vector<std::unique_ptr<HelperTask>> ended;
    for (auto& task : helper.further)
        if (which(*task)) ended.push_back(std::move(task));
    std::erase(helper.further, nullptr);
    for (auto& task : ended) end_task(std::move(task), errno_value, reason);
}

Result<void> HelperPool::send(Helper& helper, HelperTask& task) {
    const BorrowedFd connection = owner_->connection_of(task);
    auto sent =
        proto::send(helper.channel.borrow(), task.message, std::span(&connection, 1), proto::Wait::never);
    if (!sent) return sent;
    helper.state = Helper::State::working;
    helper.due = task.deadline;
    task.given_at = Clock::now();
    const HelperTask::Part& first = task.parts.front();
    helper.last = {task.uid, first.rule, std::string(first.request.path), task.given_at};
    ++counters_.tasks;
    return {};
}

void HelperPool::order_helpers() {
    if (order_again_at_ && Clock::now() < *order_again_at_) return;
    order_again_at_.reset();
    std::size_t wanted = 0;
    for (const auto& [uid, user] : users_) {
        if (may_have_helper(user))
            wanted += std::min(user.waiting.size(), max_helpers_of_user - user.helpers);
    }
    wanted = std::min(wanted, max_helpers - helpers());
    while (ordered_ < wanted && !zygotes_.empty()) {
        if (proto::send(zygotes_.back().borrow(), std::span(&order, 1), {}, proto::Wait::never)) {
            ++ordered_;
        } else {
            // Its end is told by epoll.
            return;
        }
    }
}

}  // namespace fdbroker::opener
