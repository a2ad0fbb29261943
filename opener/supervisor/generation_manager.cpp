// SPDX-License-Identifier: MIT
#include "opener/supervisor/generation_manager.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/supervisor/acceptor.hpp"

namespace fdbroker::opener {

using proto::Result;
using std::chrono::milliseconds;

namespace {

// A peer that does not read its replies, or a filesystem that does not answer, holds up the end of the opener for so long.
constexpr milliseconds end_timeout{2'000};
// Messages that are taken at once from a generation's link: a broker that was taken over does not keep the loop from
// signals and from the audit.
constexpr std::size_t messages_per_turn = 64;
// Besides a message for each connection, a generation may leave so many unread and ask for more.
constexpr std::size_t max_unread_messages = 1024;
constexpr std::size_t max_avoided_uids = 64;

}  // namespace

GenerationManager::GenerationManager(const Options& options, AuditLog& log, EventLoop& loop, FactsPage& facts,
                                     ConnectionTable& connections, Owner& owner)
    : options_(options),
      log_(log),
      loop_(loop),
      facts_(facts),
      connections_(connections),
      owner_(owner),
      draining_(loop, [this](Generation& abandoned) { drained(abandoned, SIGKILL); }),
      ready_by_(loop.timer([this](Clock::time_point) { end_start(); })),
      kill_(loop.timer([this](Clock::time_point now) { kill_active(now); })),
      abandon_(loop.timer([this](Clock::time_point) {
          if (active_) ended(&GenerationManager::active_, SIGKILL);
      })),
      ping_(loop.timer([this](Clock::time_point now) { ask_whether_it_lives(now); })) {}

void GenerationManager::inherit(const Legacy& legacy, std::shared_ptr<PolicySnapshot> policy) {
    last_number_ = legacy.last_generation;
    policy_ = std::move(policy);
    for (const LeftInflightLog& left : legacy.inflight_logs) {
        auto log = InflightLog::restore(left.bytes);
        if (log) lost_.add(left.generation, std::make_unique<InflightLog>(std::move(*log)));
    }
}

// ---- the start of a generation -------------------------------------------------------------------------

GenerationOrders GenerationManager::orders_of(Start cause, const std::string& reason) {
    GenerationOrders orders{.options = options_,
                            .listeners = listeners_,
                            .number = ++last_number_,
                            .cause = reason,
                            .recorded = log_.is_kept(),
                            .previous = draining_.inflight_logs(),
                            .facts = facts_,
                            .policy = cause == Start::first || cause == Start::reload ? nullptr : policy_,
                            // Nobody may be there to mend a policy when the machine starts; who reloads is.
                            .unknown_accounts = cause == Start::first ? policy::UnknownAccounts::match_nobody
                                                                      : policy::UnknownAccounts::are_errors,
                            .avoided_uids = {avoided_uids_.begin(), avoided_uids_.end()},
                            .shadow = shadow_,
                            .needs_shadow = cause == Start::shadow};
    std::ranges::move(lost_.inflight_logs(), std::back_inserter(orders.previous));
    if (active_) orders.previous.push_back({active_->number(), &active_->inflight()});
    return orders;
}

Result<void> GenerationManager::start(Start cause, const std::string& reason) {
    ++facts_.facts().generations;
    cause_ = cause;
    auto started = Generation::start(orders_of(cause, reason), connections_, loop_,
                                     {.spoke = [this](Generation& generation) { hear(generation); },
                                      .directories_changed = [this] { owner_.directories_changed(); }});
    if (!started) return std::unexpected(started.error());
    starting_ = std::move(*started);
    ready_by_.set_after(options_.start_timeout);
    return {};
}

void GenerationManager::avoid(uid_t uid) {
    // A broker that was taken over may say so of all uids there are.
    if (std::ranges::find(avoided_uids_, uid) == avoided_uids_.end()) avoided_uids_.push_back(uid);
    if (avoided_uids_.size() > max_avoided_uids) avoided_uids_.pop_front();
}

void GenerationManager::take_limits(const to_supervisor::Ready& message) {
    starting_->ready(
        {.connections_per_uid = message.connections_per_uid,
         .connections_total = message.connections_total,
         .rotation = {.max_size = message.audit_max_size, .keep = std::max(1U, message.audit_keep)}});
    ready_by_.stop();
    if (!active_) return activate();
    handing_over_ = true;
    kill_.set_after(generation_killed_after);
    active_->post(to_generation::HandOver{});
}

void GenerationManager::activate() {
    active_ = std::move(starting_);
    active_->activated();
    log_.begin(active_->number(), active_->ring());
    log_.rotate_by(active_->limits().rotation);
    active_->report().give_up();
    policy_ = active_->policy();
    hand_connections_on();
    liveness_.begin();
    ping_.set_after(liveness_.interval());
    owner_.activated(cause_);
    has_served_ = true;
    active_->send_queued();
}

void GenerationManager::hand_connections_on() {
    ++last_ping_;
    lost_.tell_all(*active_, last_ping_);
    for (const EarlierGeneration& draining : draining_.inflight_logs())
        active_->queue(to_generation::GenerationDraining{draining.number});
    draining_.told_with(last_ping_);
    active_->queue(to_generation::Activate{});
    connections_.begin_generation();
    for (const auto& [connection_id, connection] : connections_.all()) {
        if (connection.is_identified()) queue_adoption(*active_, connections_, connection_id);
    }
    // Until this is answered the generation may die with the lost requests of the ones before.
    active_->queue(to_generation::Ping{last_ping_});
}

void GenerationManager::end_start() {
    if (!starting_) return;
    starting_->report().log_stderr(
        fmt::format("the policy could not be loaded within {} seconds: a filesystem hangs, or "
                    "--start-timeout is too short",
                    options_.start_timeout.count()));
    starting_->kill();
    ended(&GenerationManager::starting_, SIGKILL);
}

// ---- while a generation serves -------------------------------------------------------------------------

void GenerationManager::hear(Generation& generation) {
    if (&generation == active_.get())
        serve(&GenerationManager::active_, messages_per_turn);
    else if (&generation == starting_.get())
        serve(&GenerationManager::starting_, messages_per_turn);
    else
        DrainingGenerations::serve(generation, messages_per_turn);
}

// Takes at most `max_messages`; the loop tells of the others.
void GenerationManager::serve(Slot slot, std::size_t max_messages) {
    // A generation's output comes before what is said about it.
    if (this->*slot) (this->*slot)->copy_output();
    for (; max_messages > 0; --max_messages) {
        if (!(this->*slot)) return;
        const auto received = (this->*slot)->receive();
        if (!received) return;
        if (slot == &GenerationManager::active_ &&
            active_->queued() > connections_.all().size() + max_unread_messages)
            return active_->kill();
        owner_.heard(received->message, phase_of(slot));
    }
}

GenerationManager::Phase GenerationManager::phase_of(Slot slot) const noexcept {
    if (slot == &GenerationManager::active_) return handing_over_ ? Phase::handing_over : Phase::serving;
    return starting_->is_ready() ? Phase::ready : Phase::loading;
}

std::uint64_t GenerationManager::ping() {
    active_->post(to_generation::Ping{++last_ping_});
    return last_ping_;
}

void GenerationManager::answered(const to_supervisor::Pong& message) {
    liveness_.answered();
    lost_.answered(message.number);
    draining_.answered(message.number);
}

void GenerationManager::ask_whether_it_lives(Clock::time_point now) {
    ping_.set(now + liveness_.interval());
    // A generation that hands over or ends has another deadline.
    if (!active_ || kill_.due() || abandon_.due()) return;
    if (liveness_.is_silent()) {
        log_stderr(fmt::format("generation {} has not answered for {} seconds: it is killed",
                               active_->number(), BrokerLiveness::max_silence.count()));
        return kill_.set(now);
    }
    // A broker that does not even read is not asked again and again.
    if (active_->queued() == 0) ping();
}

void GenerationManager::kill_corrupt() {
    if (active_ && log_.is_corrupt(active_->number())) active_->kill();
    draining_.kill_corrupt(log_);
}

// ---- the end of a generation ---------------------------------------------------------------------------

// The generation lives on for what its helpers have begun; the next one has the connections.
void GenerationManager::handed_over(const to_supervisor::HandedOver& message) {
    // A generation that has ended since does not live on.
    if (!active_->is_there()) return;
    handing_over_ = false;
    kill_.stop();
    abandon_.stop();
    const std::uint32_t number = active_->number();
    draining_.add(std::move(active_), log_.hand_over(message.records));
    if (starting_ && starting_->is_ready()) return activate();
    owner_.handed_over_to_none(number);
}

bool GenerationManager::reaped(pid_t pid, int status) {
    if (const auto ended = draining_.reaped(pid)) {
        drained(*ended, status);
        return true;
    }
    const auto is_it = [&](Slot slot) { return this->*slot && (this->*slot)->is(pid); };
    if (is_it(&GenerationManager::active_)) {
        ended(&GenerationManager::active_, status);
    } else if (is_it(&GenerationManager::starting_)) {
        ended(&GenerationManager::starting_, status);
    } else {
        return false;
    }
    return true;
}

// `status` as waitpid(2) tells it; SIGKILL for a generation that is not waited for any more.
void GenerationManager::ended(Slot slot, int status) {
    (this->*slot)->reaped();
    // The last messages of a generation that has ended are still in the link.
    if (slot == &GenerationManager::active_) serve(slot, std::numeric_limits<std::size_t>::max());
    const std::unique_ptr<Generation> ended = std::move(this->*slot);
    if (slot == &GenerationManager::starting_) {
        ready_by_.stop();
        return owner_.start_failed(*ended, cause_, status);
    }
    kill_.stop();
    abandon_.stop();
    log_.end(ended->number(), status == 0 ? "" : "the broker " + describe_end(status));
    lost_.add(ended->number(), ended->take_inflight());
    const bool handed_over = std::exchange(handing_over_, false);
    if (handed_over && starting_ && starting_->is_ready()) return activate();
    owner_.crashed(*ended, status);
}

void GenerationManager::drained(Generation& ended, int status) {
    log_.end(ended.number(), status == 0 ? "" : "the broker " + describe_end(status));
    if (status != 0) ++facts_.facts().crashes;
    lost_.add(ended.number(), ended.take_inflight());
    // A generation that hands over is told no more: the next one is.
    if (serving() == nullptr) return;
    lost_.tell_new(*active_, last_ping_ + 1);
    ping();
}

void GenerationManager::kill_active(Clock::time_point now) {
    if (!active_) return;
    abandon_.set(now + generation_abandoned_after);
    active_->kill();
}

void GenerationManager::retire(Farewell farewell) {
    draining_.retire(end_timeout);
    // The generation that takes over connections at this moment is told when it has them.
    if (handing_over_) return;
    if (starting_) {
        starting_->kill();
        ready_by_.set_after(generation_abandoned_after);
    }
    if (!active_) return;
    kill_.set_after(generation_killed_after);
    if (farewell == Farewell::retire) {
        active_->post(to_generation::Retire{static_cast<std::uint32_t>(end_timeout.count())});
    } else {
        handing_over_ = true;
        active_->post(to_generation::HandOver{});
    }
}

}  // namespace fdbroker::opener
