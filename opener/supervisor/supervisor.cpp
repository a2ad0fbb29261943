// SPDX-License-Identifier: MIT
#include "opener/supervisor/supervisor.hpp"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "opener/base/log_stderr.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/control/line.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;
using std::chrono::milliseconds;

namespace {

// How long a peer that does not read its replies, or a filesystem that does not answer, can hold up the end of the opener.
constexpr milliseconds end_timeout{2'000};
// Between two generations that follow directories which have become others, doubled each time: whoever may rename one
// cannot keep everybody loading policies. It starts anew when that has been left alone for so long.
constexpr milliseconds first_follow_delay{1'000};
constexpr milliseconds longest_follow_delay{30'000};
constexpr std::chrono::seconds follow_calm{60};
// A broker that has answered nothing for so long is replaced: whoever has its uid can stop it.
constexpr std::chrono::seconds broker_silent_for{5};
// It is asked this often, and more often where the service manager wants to hear of it.
constexpr std::chrono::microseconds longest_ping_interval{1'000'000};
// What is taken at once from a generation's link: a broker that was taken over does not keep the loop from signals and
// from the audit.
constexpr std::size_t messages_per_turn = 64;

}  // namespace

// ---- the loop ------------------------------------------------------------------------------------------

// Tags of events: the address of the member, or of the listener, that they are about.
Result<void> Supervisor::watch() {
    if (auto added = loop_.add(signals_.borrow(), EPOLLIN, &signals_); !added) return added;
    // Before any generation: the newest process of the supervisor's is a broker.
    if (auto started = start_names(); !started) return started;
    if (options_.workers) {
        const auto index = static_cast<std::uint32_t>(reception_.listeners().size());
        auto pool =
            WorkerPool::create(*options_.workers, index, worker_files_, connections_, loop_, facts_.facts());
        if (!pool) return std::unexpected(pool.error());
        workers_ = std::move(*pool);
    }
    return reception_.watch();
}

ExitStatus Supervisor::run() {
    if (auto watching = watch(); !watching) {
        log_stderr(watching.error().message());
        return exit_failed;
    }
    facts_.facts().started_at = Clock::now().time_since_epoch().count();
    const bool succeeds = inheritance_.legacy.has_value();
    inherit();
    start_generation(Start::first, succeeds ? "the opener takes the place of another" : "the opener starts");
    for (;;) {
        serve_until_stopped();
        if (heir_ != Heir::successor) break;
        become_successor();
    }
    const bool leaves = heir_ == Heir::service_manager;
    if (log_.is_kept() && policy_) {
        log_.record("stop", leaves ? "the opener was told to stop, and leaves its connections to the next one"
                                   : "the opener was told to stop");
        if (auto finished = log_.finish(); !finished && !leaves)
            log_event("audit-failed", finished.error().message() + "; records are lost");
    }
    if (leaves) leave_to_service_manager();
    return exit_status_;
}

void Supervisor::serve_until_stopped() {
    while (!stopped()) {
        for (const epoll_event& event : loop_.wait(patience())) handle(event);
        act_on_time();
        drain_audit();
        facts_.facts().finishing = static_cast<std::uint32_t>(finishing_.size());
        facts_.facts().connections = static_cast<std::uint32_t>(connections_.all().size());
    }
}

void Supervisor::handle(const epoll_event& event) {
    const void* const tag = event.data.ptr;
    if (tag == &signals_) {
        handle_signals();
    } else if (tag == &active_ || tag == &starting_) {
        if ((event.events & EPOLLOUT) != 0 && active_) active_->send_queued();
        serve(tag == &active_ ? &Supervisor::active_ : &Supervisor::starting_, messages_per_turn);
    } else if (finishing_.serve(tag, event.events, messages_per_turn)) {
        return;
    } else if (workers_ && workers_->owns(tag)) {
        serve_worker(tag);
    } else if (tag == &names_) {
        names_settled();
    } else if (tag == &follow_at_) {
        directories_changed();
    } else if (reception_.owns(tag)) {
        // What comes before a generation serves waits in the backlog.
        if (serves())
            for (const ConnectionId token : reception_.accept(tag, *active_)) take_in(token);
        else if (reception_.is_control(tag) && answers_control())
            reception_.answer_controls(tag, std::string(no_generation_serves) + why_unserved() + "\n");
        else
            reception_.pause();
    }
}

int Supervisor::patience() const {
    auto soonest = Clock::time_point::max();
    for (const auto& when :
         {answer_at_, restart_at_, ready_by_, kill_at_, abandon_at_, ping_at_, reception_.again_at(),
          finishing_.again_at(), trial_ ? std::optional(trial_->kill_at) : std::nullopt,
          starting_ ? std::nullopt : reload_at_, starting_ ? std::nullopt : follow_at_,
          workers_ ? workers_->again_at() : std::nullopt, names_->due()})
        soonest = std::min(soonest, when.value_or(soonest));
    const int audit = log_.patience();
    if (soonest == Clock::time_point::max()) return audit;
    const auto left =
        std::max<std::int64_t>(0, std::chrono::ceil<milliseconds>(soonest - Clock::now()).count());
    return audit < 0 ? static_cast<int>(left) : std::min(audit, static_cast<int>(left));
}

void Supervisor::act_on_time() {
    const auto now = Clock::now();
    end_what_takes_too_long(now);
    answer_unserved(now);
    if (names_->due().value_or(Clock::time_point::max()) <= now) names_settled();
    if (!starting_ && !stopping_) {
        if (reload_at_ && now >= *reload_at_) {
            service_manager_reloading();
            start_generation(Start::reload, "reload");
        } else if (restart_at_ && now >= *restart_at_) {
            start_generation(policy_ ? Start::restart : Start::first, restart_cause_);
        } else if (follow_at_ && now >= *follow_at_ && active_) {
            last_follow_ = now;
            follow_delay_ = std::clamp(2 * follow_delay_, first_follow_delay, longest_follow_delay);
            follow_at_ = now + follow_delay_;  // should this one fail
            start_generation(Start::follow, "a directory that rules name is another now");
        }
    }
    if (ping_at_ && now >= *ping_at_) ask_whether_it_lives(now);
    reception_.act_on_time(now, handing_over_ ? nullptr : active_.get());
    if (workers_) workers_->act_on_time(now);
    if (stopping_ && !retiring_ && may_retire()) retire();
}

void Supervisor::end_what_takes_too_long(Clock::time_point now) {
    if (ready_by_ && now >= *ready_by_ && starting_) {
        starting_->report().log_stderr(
            fmt::format("the policy could not be loaded within {} seconds: a filesystem hangs, or "
                        "--start-timeout is too short",
                        options_.start_timeout.count()));
        starting_->kill();
        generation_ended(&Supervisor::starting_, SIGKILL);
    }
    if (kill_at_ && now >= *kill_at_ && active_) {
        kill_at_.reset();
        abandon_at_ = now + generation_abandoned_after;
        active_->kill();
    }
    if (trial_ && now >= trial_->kill_at) {
        ::kill(trial_->pid, SIGKILL);
        trial_->kill_at = Clock::time_point::max();
    }
    if (abandon_at_ && now >= *abandon_at_ && active_) generation_ended(&Supervisor::active_, SIGKILL);
    while (const auto abandoned = finishing_.act_on_time(now)) finishing_ended(*abandoned, SIGKILL);
}

std::chrono::microseconds Supervisor::ping_interval() const {
    return std::min(watchdog_.value_or(longest_ping_interval), longest_ping_interval);
}

// Intervals are counted, since time also passes while the supervisor itself is stopped and asks nobody.
void Supervisor::ask_whether_it_lives(Clock::time_point now) {
    ping_at_ = now + ping_interval();
    // One that hands over or ends has another deadline.
    if (!active_ || kill_at_ || abandon_at_) return;
    if (unanswered_++ * ping_interval() >= broker_silent_for) {
        log_stderr(fmt::format("generation {} has not answered for {} seconds: it is killed",
                               active_->number(), broker_silent_for.count()));
        kill_at_ = now;
        return;
    }
    // One that does not even read is not asked again and again.
    if (active_->queued() == 0) active_->post({.type = LinkType::ping, .token = ++last_ping_});
}

void Supervisor::it_lives() {
    unanswered_ = 0;
    const auto now = Clock::now();
    if (!watchdog_ || now < tell_service_manager_at_) return;
    service_manager_alive();
    tell_service_manager_at_ = now + *watchdog_ - ping_interval();
}

void Supervisor::drain_audit() {
    if (auto drained = log_.drain(); !drained) {
        log_event("audit-failed", drained.error().message() +
                                      "; requests are refused until it can be written (audit: on_failure)");
    }
    if (active_ && log_.is_foul(active_->number())) active_->kill();
    finishing_.kill_foul(log_);
}

// A worker's connection goes the way of all others; a generation that takes over at this moment gets it with those.
void Supervisor::serve_worker(const void* tag) {
    if (const auto token = workers_->serve(tag)) take_in(*token);
}

void Supervisor::directories_changed() {
    if (!active_ || stopping_) return;
    const auto now = Clock::now();
    const Generation::Directories directories = active_->directories();
    if (directories == Generation::Directories::same || follow_at_) return;
    if (now - last_follow_ > follow_calm) follow_delay_ = milliseconds(0);
    follow_at_ = std::max(now, last_follow_ + follow_delay_);
    // Who looks ends with its generation: that may be what has happened, and is another matter.
    if (directories == Generation::Directories::unknown)
        follow_at_ = std::max(*follow_at_, now + first_follow_delay);
}

// ---- signals -------------------------------------------------------------------------------------------

void Supervisor::handle_signals() {
    signalfd_siginfo info;
    while (::read(signals_.number(), &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
            case SIGCHLD:
                reap();
                break;
            case SIGHUP:
                if (heir_ == Heir::successor) signal_for_successor_ = SIGHUP;
                ask_for_reload(Clock::now());
                break;
            case SIGUSR1:
                if (auto reopened = log_.reopen(); !reopened)
                    log_stderr(reopened.error().message() + "; the old file stays in use");
                break;
            case SIGTERM:
                if (heir_ == Heir::successor) signal_for_successor_ = SIGTERM;
                stop(heir_of_end());
                break;
            default:
                if (heir_ == Heir::successor) signal_for_successor_ = SIGINT;
                stop(Heir::none);
                break;  // SIGINT
        }
    }
}

void Supervisor::stop(Heir heir) {
    if (std::exchange(stopping_, true)) return;
    heir_ = heir;
    if (trial_) ::kill(trial_->pid, SIGKILL);
    if (heir != Heir::successor) service_manager_stopping();
    if (heir == Heir::none)
        reception_.close();
    else
        reception_.leave();
    restart_at_.reset();
    reload_at_.reset();
    // Those who are asked for files last are the last to end.
    if (workers_ && heir != Heir::successor) workers_->stop();
    // Who has connected is served, and so waits for its name.
    if (may_retire()) retire();
}

void Supervisor::retire() {
    retiring_ = true;
    finishing_.retire(end_timeout);
    // The one that takes over connections at this moment is told when it has them.
    if (handing_over_) return;
    if (starting_) {
        starting_->kill();
        ready_by_ = Clock::now() + generation_abandoned_after;
    }
    if (!active_) return;
    kill_at_ = Clock::now() + generation_killed_after;
    if (heir_ == Heir::none) {
        active_->post({.type = LinkType::retire, .value = static_cast<std::uint32_t>(end_timeout.count())});
    } else {
        handing_over_ = true;
        active_->post({.type = LinkType::hand_over});
    }
}

namespace {

// Returns what it was.
rlimit raise_descriptor_limit() {
    rlimit before{};
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) return {.rlim_cur = 1024, .rlim_max = 1024};
    const rlim_t wanted = std::max<rlim_t>(before.rlim_max, wanted_descriptors);
    const rlimit raised{.rlim_cur = wanted, .rlim_max = wanted};
    const rlimit permitted{.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) ::setrlimit(RLIMIT_NOFILE, &permitted);
    return before;
}

}  // namespace

ExitStatus supervise(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
                     Inheritance inheritance) {
    const rlimit files = raise_descriptor_limit();
    sigset_t handled;
    ::sigemptyset(&handled);
    // SIGPIPE and SIGXFSZ (RLIMIT_FSIZE) stay pending for ever: the write that fails tells the same.
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE, SIGXFSZ})
        ::sigaddset(&handled, signal);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    ::sigdelset(&handled, SIGPIPE);
    ::sigdelset(&handled, SIGXFSZ);
    const auto fail = [](const proto::Error& error) {
        log_error(error.message());
        return exit_failed;
    };
    UniqueFd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals) return fail(proto::system_error("signalfd").error());
    auto loop = EventLoop::create();
    if (!loop) return fail(loop.error());
    auto log = AuditLog::open(options);
    if (!log) return fail(log.error());
    if (inheritance.legacy) log->continue_from(inheritance.legacy->records);
    auto facts = FactsPage::create();
    if (!facts) return fail(facts.error());
    return Supervisor(options, invocation, std::move(listeners), std::move(*log), std::move(*loop),
                      std::move(signals), std::move(*facts), files, std::move(inheritance))
        .run();
}

}  // namespace fdbroker::opener
