#include "opener/helpers/helper_pool.hpp"

#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

// The zygote answers with an int; any byte asks for a helper.
constexpr std::byte order{1};

constexpr const char* is_over = "what it is about is over; it was not begun";
constexpr const char* no_room_on_channel = "too many descriptors are on their way to peers; it was not begun";

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

// ---- tasks ---------------------------------------------------------------------------------------------

bool HelperPool::has_room(std::uint32_t uid, std::size_t requests) {
    const auto user = users_.find(uid);
    const std::size_t of_user = user == users_.end() ? 0 : user->second.requests;
    if (requests_ + requests <= most_helper_requests && of_user + requests <= most_helper_requests_of_user)
        return true;
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

bool HelperPool::can_continue(std::uint64_t number, Token session) const noexcept {
    const Helper* const helper = helper_with(number);
    return helper != nullptr && helper->session == session && helper->state != Helper::State::closing;
}

// The end of a task, whatever it was, as far as the pool's own counts go.
void HelperPool::settle(const HelperTask& task) {
    for (const HelperTask::Part& part : task.parts) Journal::release(*part.slot);
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

void HelperPool::forget(const Session& session) {
    std::vector<std::unique_ptr<HelperTask>> ended;
    for (auto& [uid, user] : users_) {
        for (auto& task : user.waiting) {
            if (task->session != &session) continue;
            waiting_.erase({task->deadline, task.get()});
            ended.push_back(std::move(task));
        }
        std::erase(user.waiting, nullptr);
    }
    constexpr const char* reason = "the session ended before a helper was free for it";
    for (auto& task : ended) end_task(std::move(task), ECANCELED, reason);
    for (const auto& helper : helpers_)
        end_further(*helper, ECANCELED, reason,
                    [&](const HelperTask& task) { return task.session == &session; });
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

// Users take turns, so that one who has a thousand tasks delays another's by one of each helper.
HelperPool::Users::iterator HelperPool::next_user() {
    const auto may = [](const auto& entry) {
        return !entry.second.waiting.empty() && entry.second.helpers < most_helpers_of_user;
    };
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

void HelperPool::assign(Helper& helper, User& user) {
    HelperTask& task = *user.waiting.front();
    // Every task keeps a place: which will last is known only where its links have been followed.
    const bool may_last =
        user.lasting < most_lasting_helpers_of_user && lasting_ + may_last_ < most_lasting_helpers;
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
        if (user.helpers < most_helpers_of_user)
            wanted += std::min(user.waiting.size(), most_helpers_of_user - user.helpers);
    }
    wanted = std::min(wanted, most_helpers - helpers());
    while (ordered_ < wanted && !zygotes_.empty()) {
        if (proto::send(zygotes_.back().borrow(), std::span(&order, 1), {}, proto::Wait::never)) {
            ++ordered_;
        } else {
            // Its end is told by epoll.
            return;
        }
    }
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
        // That a helper ended with a message unread is told once, before what it said.
        if (!received && received.error().kind == proto::ErrorKind::disconnected)
            received = proto::receive(helper.channel.borrow(), buffer_, proto::Wait::never);
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
        case FromHelper::Type::ended:
            // Its channel is closed next.
            if (helper.lasting == 0 || helper.state == Helper::State::delivering) return false;
            helper.errno_value = message.errno_value;
            // What it was given meanwhile it has not taken: it would have reported.
            if (helper.task) helper.further.push_front(std::move(helper.task));
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
        helper.state = Helper::State::lasting;
        come_back(helper);
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
    ++user.lasting;
    ++lasting_;
    ++counters_.lasting;
    helper.lasting = number;
}

void HelperPool::become_idle(Helper& helper) {
    helper.state = Helper::State::idle;
    free_user_of(helper);
    come_back(helper);
}

void HelperPool::come_back(Helper& helper) {
    if (std::exchange(helper.stuck, false)) owner_->came_back(helper.uid, --stuck_);
}

void HelperPool::free_user_of(Helper& helper) {
    const auto user = users_.find(helper.uid);
    if (helper.lasting != 0) {
        --user->second.lasting;
        --lasting_;
    } else {
        --user->second.helpers;
    }
    if (user->second.is_idle()) users_.erase(user);
}

// Those that a burst of work has brought forth go when there is no more, also such as came too late for it.
void HelperPool::retire_surplus() {
    if (next_user() != users_.end()) return;
    std::size_t idle = 0;
    std::erase_if(helpers_, [&](const auto& helper) {
        if (helper->state != Helper::State::idle || ++idle <= most_idle_helpers) return false;
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
    return helper.state != Helper::State::idle && helper.state != Helper::State::lasting && !helper.stuck;
}

void HelperPool::leave_behind(Helper& helper) {
    if (std::exchange(helper.stuck, true)) return;
    ++counters_.stuck;
    owner_->left_behind(helper.last, ++stuck_);
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
