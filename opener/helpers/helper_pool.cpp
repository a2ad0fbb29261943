// SPDX-License-Identifier: MIT
#include "opener/helpers/helper_pool.hpp"

#include <sys/random.h>

#include <algorithm>

#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

constexpr const char* is_over = "what it is about is over; it was not begun";

}  // namespace

Result<std::unique_ptr<HelperPool>> HelperPool::create(std::vector<UniqueFd> zygotes) {
    auto loop = EventLoop::create();
    if (!loop) return std::unexpected(loop.error());
    std::uint32_t beginning = 0;
    if (::getrandom(&beginning, sizeof beginning, 0) != sizeof beginning)
        return proto::system_error("getrandom");
    std::unique_ptr<HelperPool> pool(new HelperPool(std::move(zygotes), std::move(*loop)));
    pool->last_number_ = std::uint64_t{beginning} << 32;
    // Those in reserve are watched as well: whoever is to take over must be there.
    for (const UniqueFd& zygote : pool->zygotes_) {
        if (auto added = pool->loop_.add(zygote.borrow(), EPOLLIN, nullptr); !added)
            return std::unexpected(added.error());
    }
    return pool;
}

// ---- what comes in -------------------------------------------------------------------------------------

void HelperPool::serve() {
    for (const epoll_event& event : loop_.wait(0)) {
        if (event.data.ptr == nullptr) {
            hear_zygotes();
        } else if (const auto helper = std::ranges::find(helpers_, event.data.ptr,
                                                         [](const auto& each) { return each.get(); });
                   helper != helpers_.end()) {
            hear(**helper);
        }
    }
    dispatch();
    retire_surplus();
    look_ahead();
}

void HelperPool::hear_zygotes() {
    for (std::size_t i = zygotes_.size(); i-- > 0;) {
        for (;;) {
            int status = 0;
            proto::ReceivedDescriptors descriptors;
            const auto buffer = std::as_writable_bytes(std::span(&status, 1));
            auto received = proto::receive(zygotes_[i].borrow(), buffer, descriptors, proto::Wait::never);
            if (!received && would_block(received.error())) break;
            if (!received || received->size() != sizeof status) {
                zygote_ended(i);
                break;
            }
            if (ordered_ > 0) --ordered_;
            if (status == 0 && descriptors.count() == 1) {
                add_helper(descriptors.take(0));
            } else if (helpers() == 0 && ordered_ == 0) {
                refuse_waiting();
            } else {
                order_again_at_ = Clock::now() + helper_order_interval;
            }
        }
    }
}

// The one in use is the last; what it was asked for is asked of the next.
void HelperPool::zygote_ended(std::size_t index) {
    if (index + 1 == zygotes_.size()) ordered_ = 0;
    loop_.remove(zygotes_[index].borrow());
    zygotes_.erase(zygotes_.begin() + static_cast<std::ptrdiff_t>(index));
    owner_->zygote_lost();
}

// No helper can be made, and none is there but such as last: waiting is of no use.
void HelperPool::refuse_waiting() {
    std::vector<std::unique_ptr<HelperTask>> ended;
    for (auto& [uid, user] : users_) {
        std::ranges::move(user.waiting, std::back_inserter(ended));
        user.waiting.clear();
    }
    waiting_.clear();
    for (auto& task : ended) end_task(std::move(task), EAGAIN, "no helper could be made; it was not begun");
}

void HelperPool::add_helper(UniqueFd channel) {
    auto helper = std::make_unique<Helper>();
    helper->channel = std::move(channel);
    if (!loop_.add(helper->channel.borrow(), EPOLLIN, helper.get())) return;
    helpers_.push_back(std::move(helper));
    ++counters_.made;
}

void HelperPool::hear(Helper& helper) {
    for (;;) {
        auto received = proto::receive(helper.channel.borrow(), buffer_, proto::Wait::never);
        if (!received && would_block(received.error())) return;
        const auto message = received ? read_from_helper(*received) : std::nullopt;
        // One that says what no helper says is of no more use either.
        if (!message || !take(helper, *message)) return lose(helper);
    }
}

bool HelperPool::take(Helper& helper, const FromHelper& message) {
    switch (message.type) {
        case FromHelper::Type::report:
            return helper.state == Helper::State::working && take_report(helper, message.report);
        case FromHelper::Type::sent:
            return helper.state == Helper::State::delivering && take_sent(helper, message.sent);
        case FromHelper::Type::idle:
            if (helper.state != Helper::State::closing || helper.lasting != 0) return false;
            become_idle(helper);
            return true;
        case FromHelper::Type::moved:
            helper.moved_at = Clock::now();
            return helper.lasting != 0;
        case FromHelper::Type::ended:
            // Its channel is closed next.
            if (helper.lasting == 0 || helper.state == Helper::State::delivering) return false;
            helper.errno_value =
                message.errno_value == 0 && helper.gives_way ? ECANCELED : message.errno_value;
            // What it was given meanwhile it has not taken: it would have reported.
            if (helper.task) helper.further.push_front(std::move(helper.task));
            helper.state = Helper::State::closing;
            helper.due = Clock::now() + helper_close_timeout;
            return true;
    }
    return false;
}

bool HelperPool::take_report(Helper& helper, const Report& report) {
    std::vector<Ruling> rulings;
    if (helper.task) {
        if (report.job != helper.task->number || report.outcomes.size() != helper.task->parts.size())
            return false;
        helper.task->reported_at = Clock::now();
        rulings = owner_->reported(*helper.task, report);
        helper.task->reported = true;
        for (std::size_t i = 0; i < rulings.size(); ++i)
            if (rulings[i].may_leave && !rulings[i].over_budget && report.outcomes[i].errno_value == 0)
                ++helper.task->granted;
    }
    if (helper.task) {
        helper.state = Helper::State::delivering;
    } else if (helper.lasting != 0) {
        helper.state = Helper::State::lasting;
        come_back(helper);
    } else {
        helper.state = Helper::State::closing;
    }
    helper.due = Clock::now() + (helper.task ? 2 * helper_delivery_timeout : helper_close_timeout);
    return proto::send(helper.channel.borrow(), write_verdict(report.job, rulings), {}, proto::Wait::never)
        .has_value();
}

bool HelperPool::take_sent(Helper& helper, const Sent& sent) {
    const bool may_last = helper.lasting != 0 || (helper.task && helper.task->may_last);
    if (sent.lasts && !may_last) return false;
    if (helper.task) {
        if (sent.job != helper.task->number || sent.descriptors > helper.task->granted) return false;
        owner_->delivered(*helper.task, sent);
        settle(*std::exchange(helper.task, nullptr));
    }
    if (sent.lasts) {
        if (helper.lasting == 0) begin_to_last(helper, sent.job);
        helper.moved_at = Clock::now();
        helper.state = Helper::State::lasting;
        come_back(helper);
        if (helper.ends) helper.due = Clock::now() + helper_close_timeout;
        // It hears that its channel is closed.
        if (puts_end_ && helper.puts) helper.errno_value = 0;
        return !puts_end_ || !helper.puts;
    }
    end_further(helper, ESTALE, is_over);
    helper.state = Helper::State::closing;
    helper.due = Clock::now() + helper_close_timeout;
    return true;
}

void HelperPool::begin_to_last(Helper& helper, std::uint64_t number) {
    User& user = users_[helper.uid];
    --user.helpers;
    --at_work_;
    ++user.lasting;
    ++lasting_;
    ++counters_.lasting;
    helper.lasting = number;
    if (lasting_ - giving_way_ > max_lasting_helpers) end_resting();
}

void HelperPool::become_idle(Helper& helper) {
    helper.state = Helper::State::idle;
    helper.ends = false;
    free_user_of(helper);
    come_back(helper);
}

void HelperPool::come_back(Helper& helper) {
    if (std::exchange(helper.stuck, false)) owner_->came_back(helper.uid, --stuck_);
}

void HelperPool::free_user_of(Helper& helper) {
    if (helper.lasting != 0) --lasting_;
    if (std::exchange(helper.gives_way, false)) {
        // It counts for its user no more.
        --giving_way_;
        return;
    }
    const auto user = users_.find(helper.uid);
    if (helper.lasting != 0) {
        --user->second.lasting;
    } else {
        --user->second.helpers;
        --at_work_;
    }
    if (user->second.is_idle()) users_.erase(user);
}

// Those that a burst of work has brought forth go when there is no more, also such as came too late for it.
void HelperPool::retire_surplus() {
    if (next_user() != users_.end()) return;
    std::size_t idle = 0;
    std::erase_if(helpers_, [&](const auto& helper) {
        if (helper->state != Helper::State::idle || ++idle <= max_idle_helpers) return false;
        loop_.remove(helper->channel.borrow());
        return true;
    });
}

void HelperPool::lose(Helper& helper) {
    if (helper.state != Helper::State::idle) free_user_of(helper);
    come_back(helper);
    const bool delivers = helper.task && helper.task->granted != 0;
    if (helper.task) {
        ++counters_.lost;
        end_task(std::move(helper.task), EIO,
                 "the helper that worked on it died; what came of it is unknown");
    }
    end_further(helper, ESTALE, is_over);
    if (helper.lasting != 0 || delivers) owner_->ended(helper.last, helper.errno_value);
    loop_.remove(helper.channel.borrow());
    std::erase_if(helpers_, [&](const auto& each) { return each.get() == &helper; });
}

// ---- deadlines -----------------------------------------------------------------------------------------

void HelperPool::act_on_time(Clock::time_point now) {
    if (!due_ || now < *due_) return;
    while (requests_ > max_helper_requests && give_way()) {
    }
    while (!waiting_.empty() && waiting_.begin()->first <= now) time_out_waiting(*waiting_.begin()->second);
    for (const auto& helper : helpers_) {
        if (is_awaited(*helper) && helper->due <= now) time_out(*helper);
        end_further(*helper, ETIMEDOUT, "its helper did not come to it before its deadline; it was not begun",
                    [&](const HelperTask& task) { return task.deadline <= now; });
    }
    dispatch();
    look_ahead();
}

void HelperPool::time_out_waiting(HelperTask& task) {
    waiting_.erase({task.deadline, &task});
    auto& waiting = users_[task.uid].waiting;
    const auto found = std::ranges::find(waiting, &task, &std::unique_ptr<HelperTask>::get);
    auto owned = std::move(*found);
    waiting.erase(found);
    ++counters_.timed_out;
    end_task(std::move(owned), ETIMEDOUT,
             "every helper of this user waits for a filesystem; it was not begun before its deadline");
}

void HelperPool::time_out(Helper& helper) {
    if (helper.task) {
        ++counters_.timed_out;
        end_task(std::move(helper.task), ETIMEDOUT,
                 "the filesystem did not answer before the rule's deadline; the outcome is unknown");
    }
    leave_behind(helper);
}

// Whether a message must come from it by its time.
bool HelperPool::is_awaited(const Helper& helper) noexcept {
    const bool rests =
        helper.state == Helper::State::idle || (helper.state == Helper::State::lasting && !helper.ends);
    return !rests && !helper.stuck;
}

void HelperPool::leave_behind(Helper& helper) {
    if (std::exchange(helper.stuck, true)) return;
    ++counters_.stuck;
    owner_->left_behind(helper.last, ++stuck_);
}

bool HelperPool::works_for(ConnectionId session) const noexcept {
    return std::ranges::any_of(helpers_, [session](const auto& helper) {
        return helper->state != Helper::State::idle && helper->session == session;
    });
}

std::vector<HeldUp> HelperPool::held_up() const {
    std::vector<HeldUp> all;
    for (const auto& helper : helpers_)
        if (helper->stuck) all.push_back(helper->last);
    return all;
}

void HelperPool::look_ahead() {
    due_.reset();
    if (!waiting_.empty()) {
        due_ = waiting_.begin()->first;
        if (order_again_at_) due_ = std::min(*due_, *order_again_at_);
    }
    for (const auto& helper : helpers_) {
        if (is_awaited(*helper)) due_ = std::min(due_.value_or(helper->due), helper->due);
        for (const auto& task : helper->further)
            due_ = std::min(due_.value_or(task->deadline), task->deadline);
    }
}

}  // namespace fdbroker::opener
