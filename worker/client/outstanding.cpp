// SPDX-License-Identifier: MIT
#include "worker/client/outstanding.hpp"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace fdbroker::worker {
namespace {

using std::chrono::steady_clock;

itimerspec timer_for(const Deadline& deadline) {
    using namespace std::chrono;
    itimerspec timer{};
    if (!deadline) return timer;
    // steady_clock is CLOCK_MONOTONIC here. A timer at 0 would never run out.
    const auto since = std::max(deadline->time_since_epoch(), steady_clock::duration(1));
    timer.it_value.tv_sec = static_cast<time_t>(duration_cast<seconds>(since).count());
    timer.it_value.tv_nsec = static_cast<long>((duration_cast<nanoseconds>(since) % seconds(1)).count());
    return timer;
}

}  // namespace

Deadline deadline_in(int milliseconds) {
    if (milliseconds < 0) return std::nullopt;
    return steady_clock::now() + std::chrono::milliseconds(milliseconds);
}

int milliseconds_until(const Deadline& deadline) {
    using namespace std::chrono;
    if (!deadline) return -1;
    const auto left = ceil<milliseconds>(*deadline - steady_clock::now()).count();
    return static_cast<int>(std::clamp<decltype(left)>(left, 0, INT_MAX));
}

bool has_passed(const Deadline& deadline) {
    return deadline && steady_clock::now() >= *deadline;
}

void Outstanding::add(std::uint32_t id, proto::Call call, std::uint64_t tag, const Deadline& deadline,
                      bool of_directory) {
    waiting_.emplace(id,
                     Waiting{.call = call, .tag = tag, .deadline = deadline, .of_directory = of_directory});
    if (deadline) ++deadlines_;
}

std::optional<proto::Call> Outstanding::call_of(std::uint32_t id) const {
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return std::nullopt;
    return found->second.call;
}

void Outstanding::finish(std::uint32_t id, Completion completion) {
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;
    completion.tag = found->second.tag;
    completion.call = found->second.call;
    completion.of_directory = found->second.of_directory;
    if (found->second.deadline) --deadlines_;
    done_.push_back(std::move(completion));
    waiting_.erase(found);
}

void Outstanding::give_up(int error, const std::string& reason) {
    for (const auto& [id, waiting] : waiting_)
        done_.push_back({.tag = waiting.tag, .call = waiting.call, .result = -error, .reason = reason});
    waiting_.clear();
    deadlines_ = 0;
}

void Outstanding::expire(const std::string& reason) {
    if (deadlines_ == 0) return;
    const auto now = steady_clock::now();
    std::vector<std::uint32_t> late;
    for (const auto& [id, waiting] : waiting_)
        if (waiting.deadline && *waiting.deadline <= now) late.push_back(id);
    for (const std::uint32_t id : late) finish(id, {.result = -ETIMEDOUT, .reason = reason});
}

void Outstanding::give_up_put(std::uint32_t id, std::string path) {
    given_up_puts_.emplace_back(id, std::move(path));
    if (given_up_puts_.size() > most_given_up) given_up_puts_.pop_front();
}

std::optional<std::string> Outstanding::take_given_up_put(std::uint32_t id) {
    const auto found = std::ranges::find(given_up_puts_, id, &std::pair<std::uint32_t, std::string>::first);
    if (found == given_up_puts_.end()) return std::nullopt;
    std::string path = std::move(found->second);
    given_up_puts_.erase(found);
    return path;
}

Deadline Outstanding::earliest() const {
    Deadline earliest;
    if (deadlines_ == 0) return earliest;
    for (const auto& [id, waiting] : waiting_)
        if (waiting.deadline && (!earliest || *waiting.deadline < *earliest)) earliest = waiting.deadline;
    return earliest;
}

bool Outstanding::write(const proto::Request& request, std::size_t max_message, std::size_t max_requests) {
    if (!unsent_.empty()) {
        Message& last = unsent_.back();
        // The ids of a message increase.
        if (last.last_id < request.id && last.writer.count() < max_requests && last.writer.add(request)) {
            last.last_id = request.id;
            return true;
        }
    }
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(max_message);
    proto::RequestWriter writer({buffer.get(), max_message});
    if (!writer.add(request)) return false;
    unsent_.push_back({.buffer = std::move(buffer), .writer = writer, .last_id = request.id});
    return true;
}

std::size_t Outstanding::show(std::size_t count) {
    shown_.clear();
    for (; count > 0 && !done_.empty(); --count) {
        shown_.push_back(std::move(done_.front()));
        done_.pop_front();
    }
    return shown_.size();
}

int Outstanding::make_wake(proto::BorrowedFd socket) {
    if (wake_) return wake_.number();
    proto::UniqueFd wake(::epoll_create1(EPOLL_CLOEXEC));
    proto::UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!wake || !timer) return -errno;
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (::epoll_ctl(wake.number(), EPOLL_CTL_ADD, timer.number(), &event) != 0 ||
        (socket && ::epoll_ctl(wake.number(), EPOLL_CTL_ADD, socket.number(), &event) != 0))
        return -errno;
    wake_ = std::move(wake);
    timer_ = std::move(timer);
    waits_for_room_ = false;
    timer_at_.reset();
    update_wake(socket);
    return wake_.number();
}

void Outstanding::update_wake(proto::BorrowedFd socket) {
    if (!wake_) return;
    if (socket && waits_for_room_ != has_unsent()) {
        waits_for_room_ = has_unsent();
        epoll_event event{.events = waits_for_room_ ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {}};
        static_cast<void>(::epoll_ctl(wake_.number(), EPOLL_CTL_MOD, socket.number(), &event));
    }
    // Answers that are there already wake by the timer, since the socket no longer tells of them.
    const Deadline at = has_done() || !socket ? Deadline(steady_clock::time_point()) : earliest();
    if (at == timer_at_) return;
    timer_at_ = at;
    const itimerspec timer = timer_for(at);
    static_cast<void>(::timerfd_settime(timer_.number(), TFD_TIMER_ABSTIME, &timer, nullptr));
}

void Outstanding::close_wake() noexcept {
    wake_.reset();
    timer_.reset();
}

std::vector<proto::BorrowedFd> Outstanding::descriptors() const {
    std::vector<proto::BorrowedFd> all;
    if (wake_) all = {wake_.borrow(), timer_.borrow()};
    for (const Completion& done : done_)
        if (done.file) all.push_back(done.file.borrow());
    return all;
}

}  // namespace fdbroker::worker
