// SPDX-License-Identifier: MIT
// A generation from its start to its end, as the supervisor has it.
#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;
using std::chrono::milliseconds;

namespace {

// A broker that dies is replaced at once; one that dies again and again, more and more slowly.
constexpr milliseconds first_delay{50};
constexpr milliseconds longest_delay{10'000};
// A generation that has served this long starts the count anew.
constexpr std::chrono::seconds proven_after{30};

}  // namespace

void Supervisor::start_generation(Start why, const std::string& cause) {
    restart_at_.reset();
    if (why == Start::reload) {
        reload_at_.reset();
        last_reload_ = Clock::now();
        starting_for_askers_ = std::exchange(reload_askers_, {});
    }
    GenerationOrders orders{.options = options_,
                            .listeners = {},
                            .number = ++last_number_,
                            .cause = cause,
                            .recorded = log_.is_kept(),
                            .previous = finishing_.predecessors(),
                            .facts = facts_,
                            .policy = why == Start::restart || why == Start::follow ? policy_ : nullptr,
                            // Nobody may be there to mend a policy when the machine starts; who reloads is.
                            .unknown_accounts = why == Start::first ? policy::UnknownAccounts::match_nobody
                                                                    : policy::UnknownAccounts::are_errors,
                            .avoided_uids = {avoided_uids_.begin(), avoided_uids_.end()}};
    for (const Listener& listener : reception_.listeners())
        orders.listeners.push_back({listener.name(), listener.address(), listener.kind()});
    if (workers_)
        orders.listeners.push_back({workers_->name(), "workers of the opener", Listener::Kind::workers});
    for (const Lost& lost : lost_) orders.previous.push_back({lost.number, lost.inflight.get()});
    if (active_) orders.previous.push_back({active_->number(), &active_->inflight()});
    ++facts_.facts().generations;
    auto started = Generation::start(std::move(orders), connections_, loop_, &starting_);
    starting_for_ = why;
    if (!started) {
        const bool table_is_full = started.error().errno_value == EMFILE;
        log_error(fmt::format(
            "cannot start a broker: {}{}", started.error().message(),
            table_is_full ? "; the limit of descriptors (ulimit -n, LimitNOFILE=) is too low" : ""));
        if (why == Start::reload) answer_reload(CommandResult::failed);
        if (active_) return;
        if (policy_) return restart_later(cause);
        exit_status_ = exit_failed;
        stop(heir_of_end());
        return;
    }
    starting_ = std::move(*started);
    ready_by_ = Clock::now() + options_.start_timeout;
}

void Supervisor::generation_ready() {
    ready_by_.reset();
    if (!active_) return activate();
    handing_over_ = true;
    kill_at_ = Clock::now() + generation_killed_after;
    active_->post({.type = LinkType::hand_over});
}

void Supervisor::activate() {
    const bool first = !std::exchange(has_served_, true);
    active_ = std::move(starting_);
    active_->activated(&active_, &follow_at_, &log_);
    follow_at_.reset();
    control_ping_.reset();
    if (starting_for_ == Start::follow) ++facts_.facts().followed;
    log_.begin(active_->number(), active_->ring());
    log_.rotate_by(active_->limits().rotation);
    active_->report().give_up();
    policy_ = active_->policy();
    ++last_ping_;
    for (Lost& lost : lost_) {
        active_->queue({.type = LinkType::lost, .value = lost.number});
        lost.told_with = last_ping_;
    }
    for (const EarlierGeneration& one : finishing_.predecessors())
        active_->queue({.type = LinkType::left, .value = one.number});
    finishing_.told_with(last_ping_);
    active_->queue({.type = LinkType::activate});
    for (const auto& [token, connection] : connections_.all()) {
        if (!connection.is_identified()) continue;
        if (connection.needs_room) active_->queue({.type = LinkType::make_room});
        active_->queue(connections_.adoption(token));
    }
    // Until this is answered the generation may die with the lost requests of the ones before.
    active_->queue({.type = LinkType::ping, .token = last_ping_});
    if (starting_for_ == Start::reload) {
        ++facts_.facts().reloads;
        note_reload(CommandResult::done);
        answer_reload(CommandResult::done);
    }
    for (Answer& answer : std::exchange(answers_, {})) active_->queue(answer.message, std::move(answer.text));
    active_->send_queued();
    if (first) {
        for (const Listener& listener : reception_.listeners())
            log_note(fmt::format("{} {} ({})",
                                 listener.kind() == Listener::Kind::control ? "controlled at" : "serving",
                                 listener.address(), listener.name()));
    }
    if (first && workers_) workers_->start();
    if (first) forget_stored();
    service_manager_ready();
    unanswered_ = 0;
    ping_at_ = Clock::now() + ping_interval();
    if (stopping_) {
        if (retiring_) retire();
        return;
    }
    reception_.resume();
}

void Supervisor::reap() {
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) return;
        if (workers_ && workers_->reaped(pid, status)) continue;
        if (trial_ && trial_->pid == pid) {
            tried_out(status);
            continue;
        }
        if (const auto finished = finishing_.reaped(pid)) {
            finishing_ended(*finished, status);
            continue;
        }
        for (const Slot slot : {&Supervisor::active_, &Supervisor::starting_}) {
            if (!(this->*slot) || !(this->*slot)->is(pid)) continue;
            generation_ended(slot, status);
            break;
        }
    }
}

// `status` as waitpid(2) tells it; SIGKILL for one that is not waited for any more.
void Supervisor::generation_ended(Slot slot, int status) {
    (this->*slot)->reaped();
    // What it said before it ended is still in the link.
    if (slot == &Supervisor::active_) serve(slot, std::numeric_limits<std::size_t>::max());
    const std::unique_ptr<Generation> ended = std::move(this->*slot);
    if (slot == &Supervisor::starting_) return start_failed(*ended, status);
    kill_at_.reset();
    abandon_at_.reset();
    log_.end(ended->number(), status == 0 ? "" : "the broker " + describe_end(status));
    lost_.push_back({.number = ended->number(), .inflight = ended->take_inflight()});
    const bool handed_over = std::exchange(handing_over_, false);
    if (handed_over && starting_ && starting_->is_ready()) return activate();
    if (stopping_) return;
    ++facts_.facts().crashes;
    if (ended->age() > proven_after) delay_.reset();
    replace(fmt::format("generation {} {}", ended->number(), describe_end(status)));
}

// It lives on for what its helpers have begun; the next one has the connections.
void Supervisor::handed_over(std::uint64_t records) {
    handing_over_ = false;
    kill_at_.reset();
    abandon_at_.reset();
    const std::uint32_t number = active_->number();
    finishing_.add(std::move(active_), log_.hand_over(records));
    if (starting_ && starting_->is_ready()) return activate();
    // Its successor has died at this moment.
    if (!stopping_) return replace(fmt::format("generation {} has handed over to none", number));
    if (retiring_) retire();
}

void Supervisor::finishing_ended(Generation& ended, int status) {
    log_.end(ended.number(), status == 0 ? "" : "the broker " + describe_end(status));
    if (status != 0) ++facts_.facts().crashes;
    lost_.push_back({.number = ended.number(), .inflight = ended.take_inflight()});
    tell_lost();
}

// One that hands over is told no more: the next one is.
void Supervisor::tell_lost() {
    if (!active_ || handing_over_) return;
    ++last_ping_;
    for (Lost& lost : lost_) {
        if (lost.told_with != 0) continue;
        active_->queue({.type = LinkType::lost, .value = lost.number});
        lost.told_with = last_ping_;
    }
    active_->post({.type = LinkType::ping, .token = last_ping_});
}

// A generation that starts at this moment has the journals as well, and must not answer a second time.
void Supervisor::answered(std::uint64_t ping) {
    std::erase_if(lost_, [ping](const Lost& lost) {
        if (lost.told_with == 0 || lost.told_with > ping) return false;
        lost.inflight->clear();
        return true;
    });
    finishing_.answered(ping);
}

void Supervisor::start_failed(Generation& failed, int status) {
    ready_by_.reset();
    if (stopping_) return;
    // A policy that an opener before this one has left is tried after the files.
    if (!policy_ || (!has_served_ && starting_for_ == Start::restart)) {
        exit_status_ = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy ? exit_policy : exit_failed;
        if (WIFSIGNALED(status)) log_error("the broker was " + describe_end(status) + " while it started");
        return stop(heir_of_end());
    }
    if (starting_for_ == Start::first)
        log_event("reload-failed",
                  "the policy was not loaded; the one that was in force before the restart stays so");
    if (starting_for_ == Start::reload) {
        ++facts_.facts().failed_reloads;
        note_reload(CommandResult::failed);
        log_event("reload-failed", "the policy was not reloaded; the one before stays in force");
        const bool invalid = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy;
        answer_reload(invalid ? CommandResult::invalid : CommandResult::failed,
                      std::make_shared<const UniqueFd>(failed.report().take()));
        if (active_)
            active_->post({.type = LinkType::not_reloaded, .value = static_cast<std::uint32_t>(status)});
        service_manager_ready();
    }
    if (starting_for_ == Start::follow)
        log_stderr(
            "directories that rules name are others now, and no generation could follow; it is tried again");
    if (active_) return;
    const std::string cause = fmt::format("generation {} {}", failed.number(), describe_end(status));
    log_.record("start-failed", cause);
    replace(cause);
}

void Supervisor::note_reload(CommandResult result) {
    facts_.facts().last_reload = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
    facts_.facts().last_reload_failed = result != CommandResult::done;
}

void Supervisor::replace(const std::string& cause) {
    log_event("crash", fmt::format("the broker of {}; starting another", cause));
    restart_cause_ = cause;
    if (!starting_) restart_later(cause);
}

void Supervisor::restart_later(const std::string& cause) {
    restart_cause_ = cause;
    // What is replaced while it serves, since its zygote is lost.
    if (active_ && active_->age() > proven_after) delay_.reset();
    const milliseconds delay = delay_.value_or(first_delay);
    restart_at_ = Clock::now() + delay;
    delay_ = std::min(2 * delay, longest_delay);
}

}  // namespace fdbroker::opener
