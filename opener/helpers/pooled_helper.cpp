// SPDX-License-Identifier: MIT
#include "opener/helpers/pooled_helper.hpp"

#include <sys/socket.h>

#include <string>

#include "opener/quota/helper_limits.hpp"

namespace fdbroker::opener {

HelperTask* PooledHelper::task() const noexcept {
    if (const auto* running = std::get_if<Running>(&state)) return running->task.get();
    if (const auto* delivering = std::get_if<Delivering>(&state)) return delivering->task.get();
    return nullptr;
}

std::unique_ptr<HelperTask> PooledHelper::take_task() noexcept {
    if (auto* running = std::get_if<Running>(&state)) return std::move(running->task);
    if (auto* delivering = std::get_if<Delivering>(&state)) return std::move(delivering->task);
    return nullptr;
}

std::optional<PooledHelper::Clock::time_point> PooledHelper::awaited_by() const noexcept {
    if (stuck) return std::nullopt;
    if (const auto* running = std::get_if<Running>(&state)) return running->task->deadline;
    if (const auto* delivering = std::get_if<Delivering>(&state)) return delivering->due;
    if (const auto* closing = std::get_if<Closing>(&state)) return closing->due;
    if (const auto* background = std::get_if<Background>(&state)) return background->due;
    return std::nullopt;
}

bool PooledHelper::has_left(std::uint64_t number) const noexcept {
    if (work) return work->number == number;
    // A peer that has its reply may be faster than the helper, which tells that it has sent it.
    const HelperTask* const sent = is<Delivering>() ? task() : nullptr;
    return sent != nullptr && sent->allows_background && sent->number == number;
}

int PooledHelper::result() const noexcept {
    const auto* closing = std::get_if<Closing>(&state);
    return closing != nullptr ? closing->result : EIO;
}

bool PooledHelper::rests() const noexcept {
    const auto* background = std::get_if<Background>(&state);
    return background != nullptr && !background->due && further.empty() && work->ending == Work::Ending::none;
}

void PooledHelper::run(std::unique_ptr<HelperTask> given) {
    const HelperTask::Part& first = given->parts.front();
    session = given->connection_id;
    request = {given->uid, first.rule, std::string(first.request.path), given->given_at};
    state = Running{std::move(given)};
}

void PooledHelper::deliver() {
    state = Delivering{take_task(), Clock::now() + helper_delivery_report_timeout};
}

void PooledHelper::close(int result) {
    state = Closing{Clock::now() + helper_close_timeout, result};
}

void PooledHelper::rest() {
    Background background{};
    if (!session) background.due = Clock::now() + helper_close_timeout;
    state = background;
}

void PooledHelper::tell_to_end() noexcept {
    work->ending = Work::Ending::told;
    ::shutdown(channel.number(), SHUT_WR);
}

void PooledHelper::give_way() {
    tell_to_end();
    work->ending = Work::Ending::gives_way;
    state = Background{Clock::now() + helper_close_timeout};
}

void PooledHelper::session_ended() {
    session.reset();
    auto* background = std::get_if<Background>(&state);
    if (background != nullptr && !background->due) background->due = Clock::now() + helper_close_timeout;
}

}  // namespace fdbroker::opener
