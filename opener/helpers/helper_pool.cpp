// SPDX-License-Identifier: MIT
#include "opener/helpers/helper_pool.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "opener/quota/helper_limits.hpp"
#include "opener/request/call_table.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

constexpr const char* is_over = "what it is about is over; it was not begun";

}  // namespace

Result<std::unique_ptr<HelperPool>> HelperPool::create(std::vector<UniqueFd> zygotes, EventLoop& loop,
                                                       std::span<const policy::Rule> rules) {
    std::uint32_t beginning = 0;
    if (::getrandom(&beginning, sizeof beginning, 0) != sizeof beginning)
        return proto::system_error("getrandom");
    std::unique_ptr<HelperPool> pool(new HelperPool(loop, rules));
    pool->last_number_ = std::uint64_t{beginning} << 32;
    for (UniqueFd& zygote : zygotes) {
        if (auto added = pool->zygotes_.add(std::move(zygote)); !added) return std::unexpected(added.error());
    }
    return pool;
}

// ---- what comes in -------------------------------------------------------------------------------------

void HelperPool::helper_made(UniqueFd channel) {
    act_soon();
    auto helper = std::make_unique<PooledHelper>(std::move(channel));
    auto source = loop_.watch(helper->channel.borrow(), Events::readable, [this, of = helper.get()](Events) {
        hear(*of);
        act_soon();
    });
    if (!source) return;
    helper->source = std::move(*source);
    helpers_.push_back(std::move(helper));
    ++counters_.made;
}

void HelperPool::helper_not_made() {
    act_soon();
    if (helpers() == 0 && zygotes_.ordered() == 0) {
        refuse_waiting();
    } else {
        zygotes_.pause();
    }
}

void HelperPool::zygote_ended() {
    act_soon();
    owner_->zygote_lost();
}

void HelperPool::hear(PooledHelper& helper) {
    for (;;) {
        auto received = proto::receive(helper.channel.borrow(), buffer_, proto::Wait::never);
        if (!received && would_block(received.error())) return;
        const auto message = received ? read_from_helper(*received, rules_) : std::nullopt;
        // A helper that sends an impossible message is of no more use either.
        if (!message || !take(helper, *message)) return lose(helper);
    }
}

bool HelperPool::take(PooledHelper& helper, const FromHelper& message) {
    switch (message.type) {
        case FromHelper::Type::report:
            if (!helper.is<PooledHelper::Running>()) return false;
            return helper.task() != nullptr ? take_report(helper, message.report)
                                            : take_late_report(helper, message.report);
        case FromHelper::Type::sent:
            return helper.is<PooledHelper::Delivering>() && take_sent(helper, message.sent);
        case FromHelper::Type::idle:
            if (!helper.is<PooledHelper::Closing>() || helper.work) return false;
            become_idle(helper);
            return true;
        case FromHelper::Type::moved:
            if (!helper.work) return false;
            helper.work->moved_at = Clock::now();
            return true;
        case FromHelper::Type::ended:
            return take_end(helper, message.errno_value);
    }
    return false;
}

bool HelperPool::take_report(PooledHelper& helper, const Report& report) {
    HelperTask& task = *helper.task();
    if (report.job != task.number || report.outcomes.size() != task.parts.size()) return false;
    task.reported_at = Clock::now();
    const Verdict verdict = owner_->reported(task, report);
    task.reported = true;
    for (std::size_t i = 0; i < verdict.records.size() && !verdict.over_budget; ++i)
        if (verdict.records[i].may_leave && report.outcomes[i].is_done()) ++task.granted;
    helper.deliver();
    return proto::send(helper.channel.borrow(), write_verdict(verdict), {}, proto::Wait::never).has_value();
}

// The task has been answered; nothing of it may leave.
bool HelperPool::take_late_report(PooledHelper& helper, const Report& report) {
    if (helper.work) {
        helper.rest();
        come_back(helper);
    } else {
        helper.close();
    }
    return proto::send(helper.channel.borrow(), write_verdict({.job = report.job}), {}, proto::Wait::never)
        .has_value();
}

bool HelperPool::take_sent(PooledHelper& helper, const Sent& sent) {
    const bool allows_background =
        helper.work || (helper.task() != nullptr && helper.task()->allows_background);
    if (sent.in_background && !allows_background) return false;
    if (HelperTask* const task = helper.task(); task != nullptr) {
        if (sent.job != task->number || sent.descriptors > task->granted) return false;
        owner_->delivered(*task, sent);
        const auto settled = helper.take_task();
        settle(*settled);
        if (sent.in_background && !helper.work) begin_background(helper, *settled);
    }
    if (!sent.in_background) {
        end_further(helper, ESTALE, is_over);
        helper.close();
        return true;
    }
    helper.work->moved_at = Clock::now();
    helper.rest();
    come_back(helper);
    if (!generation_ends_ || !helper.work->ends_with_generation) return true;
    // The helper hears that the channel is closed.
    helper.close(0);
    return false;
}

bool HelperPool::take_end(PooledHelper& helper, int errno_value) {
    if (!helper.work || helper.is<PooledHelper::Delivering>()) return false;
    // The helper has not taken the task given meanwhile: it would have reported.
    if (helper.task() != nullptr) helper.further.push_front(helper.take_task());
    // The channel is closed next.
    helper.close(errno_value == 0 && helper.gives_way() ? ECANCELED : errno_value);
    return true;
}

void HelperPool::begin_background(PooledHelper& helper, const HelperTask& task) {
    users_.begin_background(task.uid);
    ++counters_.background;
    helper.work = PooledHelper::Work{
        .number = task.number,
        .ends_with_generation = row_of(task.parts.front().request.call).background == Background::begins};
    if (users_.has_too_much_background()) end_resting();
}

// Ends the stream, put or watch that has rested longest, of the user who has most.
void HelperPool::end_resting() {
    const auto rank = [this](const PooledHelper& helper) {
        return std::pair(users_.background_of(helper.request.uid), -helper.work->moved_at.time_since_epoch());
    };
    PooledHelper* resting = nullptr;
    for (const auto& helper : helpers_) {
        if (helper->rests() && (resting == nullptr || rank(*helper) > rank(*resting))) resting = helper.get();
    }
    if (resting == nullptr) return;
    resting->give_way();
    users_.give_way(resting->request.uid);
}

void HelperPool::become_idle(PooledHelper& helper) {
    helper.state = PooledHelper::Idle{};
    users_.stop(helper.request.uid);
    come_back(helper);
}

void HelperPool::come_back(PooledHelper& helper) {
    if (std::exchange(helper.stuck, false)) owner_->came_back(helper.request.uid, --stuck_);
}

// Those that a burst of work has brought forth go when there is no more, also such as came too late for it.
void HelperPool::retire_surplus() {
    if (users_.next() != nullptr) return;
    std::size_t idle = 0;
    std::erase_if(helpers_, [&](const auto& helper) {
        return helper->template is<PooledHelper::Idle>() && ++idle > max_idle_helpers;
    });
}

void HelperPool::lose(PooledHelper& helper) {
    if (helper.work) {
        users_.end_background(helper.request.uid, helper.gives_way());
    } else if (!helper.is<PooledHelper::Idle>()) {
        users_.stop(helper.request.uid);
    }
    come_back(helper);
    auto task = helper.take_task();
    const bool ends = helper.work || (task && task->granted != 0);
    if (task) {
        ++counters_.lost;
        end_task(std::move(task), EIO, "the helper that worked on it died; what came of it is unknown");
    }
    end_further(helper, ESTALE, is_over);
    if (ends) owner_->ended(helper.request, helper.result());
    std::erase_if(helpers_, [&](const auto& each) { return each.get() == &helper; });
}

// ---- deadlines -----------------------------------------------------------------------------------------

void HelperPool::act_on_time(Clock::time_point now) {
    while (auto task = users_.take_surplus()) {
        ++counters_.refused;
        end_task(std::move(task), EAGAIN, "others need the place; it was not begun");
    }
    while (auto task = users_.take_expired(now)) {
        ++counters_.timed_out;
        end_task(std::move(task), ETIMEDOUT,
                 "every helper of this user waits for a filesystem; it was not begun before its deadline");
    }
    for (const auto& helper : helpers_) {
        if (const auto by = helper->awaited_by(); by && *by <= now) time_out(*helper);
        end_further(*helper, ETIMEDOUT, "its helper did not come to it before its deadline; it was not begun",
                    [&](const HelperTask& task) { return task.deadline <= now; });
    }
    dispatch();
    retire_surplus();
    look_ahead();
}

void HelperPool::time_out(PooledHelper& helper) {
    if (auto task = helper.take_task()) {
        ++counters_.timed_out;
        end_task(std::move(task), ETIMEDOUT,
                 "the filesystem did not answer before the rule's deadline; the outcome is unknown");
    }
    leave_behind(helper);
}

void HelperPool::leave_behind(PooledHelper& helper) {
    if (std::exchange(helper.stuck, true)) return;
    ++counters_.stuck;
    owner_->left_behind(helper.request, ++stuck_);
}

std::vector<HeldUp> HelperPool::held_up() const {
    std::vector<HeldUp> all;
    for (const auto& helper : helpers_)
        if (helper->stuck) all.push_back(helper->request);
    return all;
}

void HelperPool::look_ahead() {
    due_.stop();
    if (users_.waiting() != 0) {
        due_.set(users_.first_deadline());
        if (zygotes_.paused_until()) due_.set_by(*zygotes_.paused_until());
    }
    for (const auto& helper : helpers_) {
        if (const auto by = helper->awaited_by()) due_.set_by(*by);
        for (const auto& task : helper->further) due_.set_by(task->deadline);
    }
}

}  // namespace fdbroker::opener
