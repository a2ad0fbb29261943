// SPDX-License-Identifier: MIT
#include "opener/supervisor/supervisor.hpp"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/confinement/privileges.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

Supervisor::Supervisor(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
                       AuditLog log, EventLoop loop, UniqueFd signals, FactsPage facts, const rlimit& files,
                       Inheritance inheritance)
    : options_(options),
      invocation_(invocation),
      inheritance_(std::move(inheritance)),
      worker_files_(files),
      log_(std::move(log)),
      loop_(std::move(loop)),
      signals_(std::move(signals)),
      facts_(std::move(facts)),
      acceptor_(std::move(listeners), connections_, loop_, facts_.facts(),
                {.incoming = [this](std::size_t listener) { take_incoming(listener); },
                 .recorder = [this] { return generations_.serving(); }}),
      generations_(options, log_, loop_, facts_, connections_, *this),
      reload_(generations_, answers_, facts_.facts(), loop_,
              [this](ExitStatus status) {
                  exit_status_ = status;
                  stop(heir_of_end());
              }),
      unserved_control_(connections_, generations_, loop_, [this] { return why_unserved(); }),
      trial_(options, invocation, files, answers_, loop_, [this] { stop(Heir::successor); }) {}

// ---- the loop ------------------------------------------------------------------------------------------

Result<void> Supervisor::watch() {
    auto signals = loop_.watch(signals_.borrow(), Events::readable, [this](Events) { handle_signals(); });
    if (!signals) return std::unexpected(signals.error());
    signals_source_ = std::move(*signals);
    // Before any generation: the newest process of the supervisor's is a broker.
    auto intake = ConnectionIntake::start(options_, loop_, facts_.facts(), connections_, generations_,
                                          [this] { unserved_control_.handed_on(); });
    if (!intake) return std::unexpected(intake.error());
    intake_ = std::move(*intake);
    std::vector<ListenerFacts> listeners;
    for (const Listener& listener : acceptor_.listeners())
        listeners.push_back({listener.name(), listener.address(), listener.kind()});
    if (options_.workers) {
        const auto index = static_cast<std::uint32_t>(listeners.size());
        // A worker's connection goes the way of all others; a generation that takes over at this moment gets it with those.
        auto pool =
            WorkerPool::create(*options_.workers, index, worker_files_, connections_, loop_, facts_.facts(),
                               [this](ConnectionId connection_id) { intake_->take_in(connection_id); });
        if (!pool) return std::unexpected(pool.error());
        workers_ = std::move(*pool);
        listeners.push_back({workers_->name(), "workers of the opener", Listener::Kind::workers});
    }
    generations_.set_listeners(std::move(listeners));
    return acceptor_.watch();
}

ExitStatus Supervisor::run() {
    if (auto watching = watch(); !watching) {
        log_stderr(watching.error().message());
        return exit_failed;
    }
    facts_.facts().started_at = std::chrono::steady_clock::now().time_since_epoch().count();
    const bool succeeds = inheritance_.legacy.has_value();
    inherit();
    reload_.begin(succeeds ? "the opener takes the place of another" : "the opener starts");
    for (;;) {
        serve_until_stopped();
        if (heir_ != Heir::successor) break;
        become_successor();
    }
    const bool leaves = heir_ == Heir::service_manager;
    if (log_.is_kept() && generations_.policy()) {
        log_.record("stop", leaves ? "the opener was told to stop, and leaves its connections to the next one"
                                   : "the opener was told to stop");
        if (auto finished = log_.finish(); !finished && !leaves)
            log_event("audit-failed", finished.error().message() + "; records are lost");
        head_.publish(log_, "when the opener ends", std::chrono::steady_clock::now());
    }
    if (leaves) leave_to_service_manager();
    if (heir_ == Heir::none) end_connections();
    return exit_status_;
}

// A helper that a filesystem holds may still have a duplicate: without this its peer would wait as long.
void Supervisor::end_connections() const noexcept {
    for (const auto& [connection_id, connection] : connections_.all())
        ::shutdown(connection.socket.number(), SHUT_RDWR);
}

void Supervisor::serve_until_stopped() {
    while (!stopping_ || !generations_.none() || !may_retire()) {
        unserved_control_.update();
        reload_.schedule();
        drain_.stop();
        if (const auto pause = log_.drain_again_after()) drain_.set_after(*pause);
        if (const auto due = head_.due()) drain_.set_by(*due);
        loop_.wait(EventLoop::Wait::for_something);
        loop_.run_timers();
        if (stopping_ && !retiring_ && may_retire()) retire();
        drain_audit();
        facts_.facts().draining = static_cast<std::uint32_t>(generations_.draining());
        facts_.facts().connections = static_cast<std::uint32_t>(connections_.all().size());
    }
}

// Connections that come before a generation serves wait in the backlog.
void Supervisor::take_incoming(std::size_t listener) {
    if (Generation* const serving = generations_.serving()) {
        for (const ConnectionId connection_id : acceptor_.accept(listener, *serving))
            intake_->take_in(connection_id);
    } else if (acceptor_.is_control(listener) && unserved_control_.answers()) {
        acceptor_.answer_controls(listener, unserved_control_.answer());
    } else {
        acceptor_.pause();
    }
}

// Workers are looked after by their pool (--worker-watchdog). A broker is asked, and killed a look or two before this would.
void Supervisor::end_stopped_processes() {
    look_for_stopped_.set_after(StoppedProcesses::interval);
    const std::vector<pid_t> workers = workers_ ? workers_->pids() : std::vector<pid_t>();
    for (const pid_t pid : stopped_processes_.end_stopped(workers))
        log_stderr(
            fmt::format("process {} of the opener has been stopped for {} seconds: it is killed and replaced",
                        pid, StoppedProcesses::max_looks - 1));
}

void Supervisor::drain_audit() {
    if (auto drained = log_.drain(); !drained) {
        log_event("audit-failed", drained.error().message() +
                                      "; requests are refused until it can be written (audit: on_failure)");
    }
    head_.look(log_, std::chrono::steady_clock::now());
    generations_.kill_corrupt();
}

std::string Supervisor::why_unserved() {
    if (Generation* const serving = generations_.serving())
        return fmt::format("generation {} does not answer", serving->number());
    if (stopping_) return "the opener stops";
    if (generations_.is_handing_over())
        return fmt::format("generation {} hands over to generation {}", generations_.active()->number(),
                           generations_.last_number());
    const Generation* const starting = generations_.starting();
    if (starting != nullptr && !generations_.policy()) return "the first one loads the policy";
    const std::string& reason = reload_.restart_reason();
    if (starting != nullptr)
        return fmt::format("generation {} starts{}{}", starting->number(), reason.empty() ? "" : ", since ",
                           reason);
    if (!reload_.restart_at()) return "none starts";
    const auto left =
        std::chrono::ceil<std::chrono::seconds>(*reload_.restart_at() - std::chrono::steady_clock::now());
    return fmt::format("{}; another one starts within {} s", reason, std::max<std::int64_t>(left.count(), 1));
}

// ---- signals and the stop ------------------------------------------------------------------------------

void Supervisor::handle_signals() {
    signalfd_siginfo info;
    while (::read(signals_.number(), &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
            case SIGCHLD:
                reap();
                break;
            case SIGHUP:
                if (heir_ == Heir::successor) signal_for_successor_ = SIGHUP;
                reload_.reload();
                break;
            case SIGUSR1:
                drain_audit();
                head_.publish(log_, "before its file is opened anew", std::chrono::steady_clock::now());
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

void Supervisor::reap() {
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) return;
        if (workers_ && workers_->reaped(pid, status)) continue;
        if (trial_.reaped(pid, status)) continue;
        static_cast<void>(generations_.reaped(pid, status));
    }
}

void Supervisor::stop(Heir heir) {
    if (std::exchange(stopping_, true)) return;
    heir_ = heir;
    trial_.stop();
    if (heir != Heir::successor) service_manager_stopping();
    if (heir == Heir::none)
        acceptor_.close();
    else
        acceptor_.leave();
    reload_.stop();
    // Workers, which are asked for files last, are the last to end.
    if (workers_ && heir != Heir::successor) workers_->stop();
    // Peers that have connected are served, and so wait for their names.
    if (may_retire()) retire();
}

void Supervisor::retire() {
    using Farewell = GenerationManager::Farewell;
    retiring_ = true;
    generations_.retire(heir_ == Heir::none ? Farewell::retire : Farewell::hand_over);
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
