// SPDX-License-Identifier: MIT
// A task from its coming to its helper.
#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "opener/helpers/helper_pool.hpp"
#include "opener/quota/helper_limits.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;

namespace {

constexpr const char* no_room_on_channel = "too many descriptors are on their way to peers; it was not begun";

}  // namespace

// ---- tasks ---------------------------------------------------------------------------------------------

bool HelperPool::has_room(std::uint32_t uid, std::size_t requests) {
    if (users_.has_room(uid, requests)) return true;
    ++counters_.refused;
    return false;
}

void HelperPool::submit(std::unique_ptr<HelperTask> task) {
    users_.add(*task);
    act_soon();
    if (task->continues == 0) return users_.wait(std::move(task));
    helper_with(task->continues)->further.push_back(std::move(task));
}

PooledHelper* HelperPool::helper_with(std::uint64_t number) const noexcept {
    const auto found =
        std::ranges::find_if(helpers_, [number](const auto& helper) { return helper->has_left(number); });
    return found == helpers_.end() ? nullptr : found->get();
}

bool HelperPool::can_continue(std::uint64_t number, ConnectionId session) const noexcept {
    const PooledHelper* const helper = helper_with(number);
    return helper != nullptr && helper->session == session && !helper->is<PooledHelper::Closing>() &&
           !helper->gives_way();
}

bool HelperPool::works_for(ConnectionId session) const noexcept {
    return std::ranges::any_of(helpers_, [session](const auto& helper) {
        return !helper->template is<PooledHelper::Idle>() && helper->session == session;
    });
}

void HelperPool::settle(const HelperTask& task) {
    for (const HelperTask::Part& part : task.parts) InflightLog::release(*part.slot);
    users_.settle(task);
}

void HelperPool::end_task(std::unique_ptr<HelperTask> task, int errno_value, const char* reason) {
    owner_->failed(*task, errno_value, reason);
    settle(*task);
}

void HelperPool::end_further(PooledHelper& helper, int errno_value, const char* reason,
                             const std::function<bool(const HelperTask&)>& which) {
    std::vector<std::unique_ptr<HelperTask>> ended;
    for (auto& task : helper.further)
        if (which(*task)) ended.push_back(std::move(task));
    std::erase(helper.further, nullptr);
    for (auto& task : ended) end_task(std::move(task), errno_value, reason);
}

void HelperPool::forget(ConnectionId session) {
    constexpr const char* reason = "the session ended before a helper was free for it";
    for (auto& task : users_.take_of(session)) end_task(std::move(task), ECANCELED, reason);
    for (const auto& helper : helpers_) {
        end_further(*helper, ECANCELED, reason,
                    [&](const HelperTask& task) { return task.connection_id == session; });
        if (helper->session != session) continue;
        // A working helper has the time of the task first.
        helper->session_ended();
        if (const auto by = helper->awaited_by()) due_.set_by(*by);
    }
}

void HelperPool::end_with_generation() {
    generation_ends_ = true;
    std::vector<PooledHelper*> ended;
    for (const auto& helper : helpers_)
        if (helper->is<PooledHelper::Background>() && helper->work->ends_with_generation &&
            helper->further.empty())
            ended.push_back(helper.get());
    for (PooledHelper* const helper : ended) {
        helper->close(0);
        lose(*helper);
    }
}

void HelperPool::abandon(int errno_value, const char* reason) {
    while (auto task = users_.take_any()) end_task(std::move(task), errno_value, reason);
    for (const auto& helper : helpers_) {
        end_further(*helper, errno_value, reason);
        auto task = helper->take_task();
        if (!task) continue;
        end_task(std::move(task), errno_value, reason);
        leave_behind(*helper);
    }
}

bool HelperPool::end_background() {
    bool any = false;
    for (const auto& helper : helpers_) {
        if (!helper->work || helper->work->ending != PooledHelper::Work::Ending::none) continue;
        helper->tell_to_end();
        any = true;
    }
    return any;
}

// ---- who is next ---------------------------------------------------------------------------------------

void HelperPool::dispatch() {
    assign_to_background();
    while (HelperTask* const task = users_.next()) {
        const auto idle = std::ranges::find_if(
            helpers_, [](const auto& helper) { return helper->template is<PooledHelper::Idle>(); });
        if (idle == helpers_.end()) return order_helpers();
        assign(**idle, *task);
    }
}

void HelperPool::assign(PooledHelper& helper, HelperTask& task) {
    // Every task keeps a place: which will last is known only where its links have been followed.
    const bool allows_background = users_.has_room_for_background(task.uid);
    set_allows_background(task.message, allows_background);
    const auto sent = send(helper, task);
    // The task waits for the next one.
    if (!sent && sent.error().kind == proto::ErrorKind::disconnected) return lose(helper);
    auto taken = users_.take(task);
    if (!sent) return end_task(std::move(taken), EAGAIN, no_room_on_channel);
    task.allows_background = allows_background;
    users_.begin(task);
    helper.run(std::move(taken));
}

void HelperPool::assign_to_background() {
    std::vector<PooledHelper*> ready;
    for (const auto& helper : helpers_)
        if (helper->is<PooledHelper::Background>() && !helper->further.empty()) ready.push_back(helper.get());
    for (PooledHelper* helper : ready) {
        // The end of an earlier one's may have been the end of their session.
        if (helper->further.empty()) continue;
        const auto sent = send(*helper, *helper->further.front());
        if (!sent && sent.error().kind == proto::ErrorKind::disconnected) {
            // The task was not begun. Why the helper has ended is still to be heard.
            hear(*helper);
            continue;
        }
        auto task = std::move(helper->further.front());
        helper->further.pop_front();
        if (sent) {
            helper->run(std::move(task));
        } else {
            end_task(std::move(task), EAGAIN, no_room_on_channel);
        }
    }
}

Result<void> HelperPool::send(const PooledHelper& helper, HelperTask& task) {
    const BorrowedFd connection = owner_->connection_of(task);
    auto sent =
        proto::send(helper.channel.borrow(), task.message, std::span(&connection, 1), proto::Wait::never);
    if (!sent) return sent;
    task.given_at = Clock::now();
    ++counters_.tasks;
    return {};
}

void HelperPool::order_helpers() {
    // Another generation follows, but tasks do not go over to it.
    if (zygotes_.empty() && helpers() == 0) return refuse_waiting();
    zygotes_.order(std::min(users_.wanted_helpers(), max_helpers - helpers()));
}

// No helper can be made, and none is there but such as last: waiting is of no use.
void HelperPool::refuse_waiting() {
    while (auto task = users_.take_any())
        end_task(std::move(task), EAGAIN, "no helper could be made; it was not begun");
}

}  // namespace fdbroker::opener
