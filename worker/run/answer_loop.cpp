// SPDX-License-Identifier: MIT
#include "worker/run/answer_loop.hpp"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <sstream>
#include <utility>

#include "proto/channel.hpp"
#include "worker/ending.hpp"

namespace fdbroker::worker {

using proto::BorrowedFd;
using proto::UniqueFd;
using proto::Wait;

AnswerLoop::AnswerLoop(const Launch& launch, const View& view, Listener listener, BorrowedFd proc,
                       pid_t program, Descriptors descriptors)
    : launch_(launch),
      report_({.trace = launch.options.trace, .explain = launch.options.explain, .learn = launch.learn}),
      broker_(launch.connection, [this](const Ask& ask, const Reply& reply) { report_.note(ask, reply); }),
      listener_(std::move(listener)),
      identities_(launch.launcher, [this](int signal) { ::kill(program_, signal); }),
      services_{.view = view,
                .broker = broker_,
                .listener = listener_,
                .proc = proc,
                .identities = identities_,
                .complain = [](std::string_view text) { complain("run: " + std::string(text)); }},
      program_(program),
      descriptors_(descriptors),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    watch(listener_.descriptor(), Source::calls);
    watch(broker_.descriptor(), Source::broker);
    watch(descriptors_.signals, Source::ends);
    watch(launch_.launcher, Source::launcher);
    if (descriptors_.notify) watch(descriptors_.notify, Source::notify);
}

int AnswerLoop::serve() {
    while (!status_) {
        std::array<epoll_event, 5> came;
        // Requests that wait for company go when no more calls wait.
        const int timeout = broker_.has_unsent() && !waits_for_room_ ? 0 : -1;
        const int count = ::epoll_wait(epoll_.number(), came.data(), came.size(), timeout);
        has_answers_ = count == 0;
        for (const epoll_event& event : std::span(came).first(static_cast<std::size_t>(std::max(count, 0))))
            handle(static_cast<Source>(event.data.u32), event.events);
        if (has_answers_) take_answers();
    }
    // The last words of a service. Its orphans may go on without end.
    for (unsigned some = 0; some < 16 && descriptors_.notify && pass_notification_on();) ++some;
    if (launch_.options.explain) explain();
    return *status_;
}

void AnswerLoop::watch(BorrowedFd descriptor, Source source) const {
    epoll_event event{.events = EPOLLIN, .data = {.u32 = static_cast<std::uint32_t>(source)}};
    static_cast<void>(::epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, descriptor.number(), &event));
}

void AnswerLoop::forget(BorrowedFd descriptor) const {
    static_cast<void>(::epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, descriptor.number(), nullptr));
}

void AnswerLoop::handle(Source source, std::uint32_t events) {
    switch (source) {
        case Source::calls:
            return take_call(events);
        case Source::broker:
            has_answers_ = true;
            return;
        case Source::ends:
            return reap();
        case Source::launcher:
            return pass_signal_on();
        case Source::notify:
            pass_notification_on();
            return;
    }
}

void AnswerLoop::take_call(std::uint32_t events) {
    // All who had the filter have ended, which stays so.
    if ((events & EPOLLIN) == 0) return forget(listener_.descriptor());
    const auto notification = listener_.receive();
    if (!notification) return;
    const Handler handler = handler_of(notification->number);
    if (handler == nullptr) return listener_.answer(*notification, Answer::failure(ENOSYS));
    auto& pending = pending_[notification->id];
    pending = std::make_unique<Pending>(*notification, services_);
    pending->task.emplace(answer(*pending, handler));
    pending->task->start();
    drop_finished();
    // On one core the broker has often answered before the request's sender goes on.
    if (pending_.size() == 1) has_answers_ = true;
}

Task<bool> AnswerLoop::answer(Pending& pending, Handler handler) {
    const Answer answer = co_await handler(pending.call);
    listener_.answer(pending.notification, answer);
    finished_.push_back(pending.notification.id);
    co_return true;
}

void AnswerLoop::take_answers() {
    if (broker_.is_over()) return;
    broker_.serve();
    drop_finished();
    wait_for_room();
    if (!broker_.is_over()) return;
    forget(broker_.descriptor());
    if (!std::exchange(told_over_, true))
        complain(std::string("run: the opener is gone, and files with it: ") + broker_.reason());
}

void AnswerLoop::wait_for_room() {
    if (waits_for_room_ == broker_.waits_for_room()) return;
    waits_for_room_ = !waits_for_room_;
    epoll_event event{.events = waits_for_room_ ? EPOLLIN | EPOLLOUT : EPOLLIN,
                      .data = {.u32 = static_cast<std::uint32_t>(Source::broker)}};
    static_cast<void>(::epoll_ctl(epoll_.number(), EPOLL_CTL_MOD, broker_.descriptor().number(), &event));
}

void AnswerLoop::drop_finished() {
    for (const std::uint64_t id : std::exchange(finished_, {})) pending_.erase(id);
}

// Process 1 inherits the program's orphans.
void AnswerLoop::reap() {
    signalfd_siginfo ignored;
    if (::read(descriptors_.signals.number(), &ignored, sizeof ignored) < 0 && errno != EAGAIN) return;
    int status = 0;
    for (pid_t ended = 0; (ended = ::waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0;) {
        if (ended != program_) continue;
        if (WIFSTOPPED(status)) {
            constexpr std::array message{std::byte{program_stopped}};
            static_cast<void>(proto::send(launch_.launcher, message, {}, Wait::never));
        } else {
            status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
    }
}

void AnswerLoop::pass_signal_on() {
    std::array<std::byte, 1> message;
    const auto received = proto::receive(launch_.launcher, message, Wait::never);
    if (received && received->size() == 1) {
        ::kill(program_, std::to_integer<int>(message[0]));
    } else if (!received && !proto::would_block(received.error())) {
        // The launcher is gone, and this process about to be.
        status_ = static_cast<int>(ExitStatus::failed);
    }
}

// Lines that name a process or bring descriptors are the service manager's alone to judge, by numbers of another namespace:
// they are left out. A descriptor that comes along (BARRIER=1) is closed, which tells its sender that the rest is on its way.
bool AnswerLoop::pass_notification_on() {
    std::array<std::byte, max_notification> text;
    proto::ReceivedDescriptors descriptors;
    const auto received =
        proto::receive(descriptors_.notify, text, descriptors, Wait::never, proto::FullTable::keep);
    if (!received) return false;
    constexpr std::array<std::string_view, 5> left_out{"MAINPID", "FDSTORE", "FDNAME", "FDPOLL", "BARRIER"};
    std::string passed;
    std::istringstream lines(std::string(reinterpret_cast<const char*>(received->data()), received->size()));
    for (std::string line; std::getline(lines, line);)
        if (std::ranges::none_of(left_out, [&](auto word) { return line.starts_with(word); }))
            passed += (passed.empty() ? "" : "\n") + line;
    if (passed.empty()) return true;
    passed.insert(passed.begin(), program_notifies);
    static_cast<void>(proto::send(launch_.launcher, std::as_bytes(std::span(passed)), {}, Wait::never));
    return true;
}

void AnswerLoop::explain() const {
    const std::string rules = report_.explanation();
    if (rules.empty()) return complain("run: nothing was refused");
    fmt::print(stderr, "worker: run: these rules would have allowed what was refused:\n{}", rules);
}

}  // namespace fdbroker::worker
