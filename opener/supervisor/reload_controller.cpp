// SPDX-License-Identifier: MIT
#include "opener/supervisor/reload_controller.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/base/wait_status.hpp"

namespace fdbroker::opener {

using proto::UniqueFd;
using std::chrono::milliseconds;

namespace {

// A broker that dies is replaced at once; one that dies again and again, more and more slowly.
constexpr Backoff restart_delays{milliseconds(50), milliseconds(10'000)};
// A generation that has served this long starts the count anew.
constexpr std::chrono::seconds proven_after{30};
// Between two generations that follow directories: whoever may rename one cannot keep everybody loading policies. The
// delay starts anew when directories have been left alone for `follow_calm`.
constexpr milliseconds first_follow_delay{1'000};
constexpr Backoff follow_delays{first_follow_delay, milliseconds(30'000)};
constexpr std::chrono::seconds follow_calm{60};
// Between two reloads that brokers ask for: a broker that was taken over cannot keep everybody loading policies.
constexpr std::chrono::seconds reload_interval{1};

bool is_invalid_policy(int status) noexcept {
    return WIFEXITED(status) && WEXITSTATUS(status) == exit_policy;
}

}  // namespace

ReloadController::ReloadController(GenerationManager& generations, CommandAnswers& answers,
                                   SupervisorFacts& facts, EventLoop& loop,
                                   std::function<void(ExitStatus)> hopeless)
    : generations_(generations),
      answers_(answers),
      facts_(facts),
      hopeless_(std::move(hopeless)),
      next_start_(loop.timer([this](Clock::time_point now) { start_next(now); })),
      restart_delay_(restart_delays),
      follow_delay_(follow_delays) {}

// ---- what is to start, and when ------------------------------------------------------------------------

void ReloadController::reload_at(Clock::time_point when) {
    if (!stopped_) reload_at_ = std::min(reload_at_.value_or(when), when);
}

void ReloadController::reload_for(ConnectionId asker) {
    if (stopped_) return answers_.give(asker, CommandResult::refused);
    if (std::ranges::find(next_askers_, asker) == next_askers_.end()) next_askers_.push_back(asker);
    reload_at(std::max(Clock::now(), last_reload_ + reload_interval));
}

void ReloadController::shadow_for(ConnectionId asker, std::string file) {
    if (stopped_ || shadow_order_) return answers_.give(asker, CommandResult::refused);
    if (file.empty() && generations_.shadow().empty()) return answers_.give(asker, CommandResult::done);
    shadow_order_ = ShadowOrder{.asker = asker,
                                .file = std::move(file),
                                .before = generations_.shadow(),
                                .at = std::max(Clock::now(), last_reload_ + reload_interval)};
}

std::vector<ConnectionId> ReloadController::askers() const {
    std::vector<ConnectionId> all = next_askers_;
    if (shadow_order_) all.push_back(shadow_order_->asker);
    all.insert(all.end(), current_askers_.begin(), current_askers_.end());
    return all;
}

void ReloadController::look_at_directories() {
    if (generations_.active() == nullptr || stopped_) return;
    const auto now = Clock::now();
    const Generation::Directories directories = generations_.active()->directories();
    if (directories == Generation::Directories::same || follow_at_) return;
    if (now - last_follow_ > follow_calm) follow_delay_.reset();
    follow_at_ = std::max(now, last_follow_ + follow_delay_.last());
    // The process that looks ends with its generation: that may be what has happened, and is another matter.
    if (directories == Generation::Directories::unknown)
        follow_at_ = std::max(*follow_at_, now + first_follow_delay);
}

void ReloadController::renew(const std::string& reason) {
    if (!stopped_ && generations_.starting() == nullptr && !restart_at_) restart_later(reason);
}

void ReloadController::stop() {
    stopped_ = true;
    restart_at_.reset();
    reload_at_.reset();
}

void ReloadController::schedule() {
    next_start_.stop();
    if (generations_.starting() != nullptr || stopped_) return;
    const auto follow_at = generations_.active() != nullptr ? follow_at_ : std::nullopt;
    const auto shadow_at =
        generations_.active() != nullptr && shadow_order_ ? std::optional(shadow_order_->at) : std::nullopt;
    for (const auto& when : {reload_at_, restart_at_, follow_at, shadow_at})
        if (when) next_start_.set_by(*when);
}

void ReloadController::start_next(Clock::time_point now) {
    if (generations_.starting() != nullptr || stopped_) return;
    if (reload_at_ && now >= *reload_at_) {
        service_manager_reloading();
        start(Start::reload, "reload");
    } else if (shadow_order_ && now >= shadow_order_->at && generations_.active() != nullptr) {
        start_shadow();
    } else if (restart_at_ && now >= *restart_at_) {
        begin_again(restart_reason_);
    } else if (follow_at_ && now >= *follow_at_ && generations_.active() != nullptr) {
        last_follow_ = now;
        follow_at_ = now + follow_delay_.next();  // should this one fail
        start(Start::follow, "a directory that rules name is another now");
    }
}

void ReloadController::start_shadow() {
    last_reload_ = Clock::now();
    generations_.set_shadow(shadow_order_->file);
    start(Start::shadow, shadow_order_->file.empty()
                             ? "no candidate decides beside the policy any more"
                             : "a candidate decides beside the policy, without effect");
}

void ReloadController::start(Start cause, const std::string& reason) {
    restart_at_.reset();
    if (cause == Start::reload) {
        reload_at_.reset();
        last_reload_ = Clock::now();
        current_askers_ = std::exchange(next_askers_, {});
    }
    const auto started = generations_.start(cause, reason);
    if (started) return;
    const bool table_is_full = started.error().errno_value == EMFILE;
    log_error(
        fmt::format("cannot start a broker: {}{}", started.error().message(),
                    table_is_full ? "; the limit of descriptors (ulimit -n, LimitNOFILE=) is too low" : ""));
    if (cause == Start::reload) answers_.give_all(std::exchange(current_askers_, {}), CommandResult::failed);
    if (cause == Start::shadow) settle_shadow(CommandResult::failed);
    if (generations_.active() != nullptr) return;
    if (generations_.policy()) return restart_later(reason);
    hopeless_(exit_failed);
}

void ReloadController::restart_later(const std::string& reason) {
    restart_reason_ = reason;
    // A generation may be replaced while it serves, since a zygote is lost.
    Generation* const active = generations_.active();
    if (active != nullptr && active->age() > proven_after) restart_delay_.reset();
    restart_at_ = Clock::now() + restart_delay_.next();
}

// ---- what has become of it -----------------------------------------------------------------------------

void ReloadController::activated(Start cause) {
    follow_at_.reset();
    if (cause == Start::follow) ++facts_.followed;
    if (cause == Start::shadow) settle_shadow(CommandResult::done);
    if (cause != Start::reload) return;
    ++facts_.reloads;
    note_reload(CommandResult::done);
    answers_.give_all(std::exchange(current_askers_, {}), CommandResult::done);
}

void ReloadController::start_failed(Generation& failed, Start cause, int status) {
    if (stopped_) return;
    // A policy that an opener before this one has left is tried after the files.
    if (!generations_.policy() || (!generations_.has_served() && cause == Start::restart)) {
        if (WIFSIGNALED(status)) log_error("the broker was " + describe_end(status) + " while it started");
        return hopeless_(is_invalid_policy(status) ? exit_policy : exit_failed);
    }
    if (cause == Start::first)
        log_event("reload-failed",
                  "the policy was not loaded; the one that was in force before the restart stays so");
    if (cause == Start::reload) reload_failed(failed, status);
    if (cause == Start::shadow)
        settle_shadow(is_invalid_policy(status) ? CommandResult::invalid : CommandResult::failed,
                      std::make_shared<const UniqueFd>(failed.report().take()));
    if (cause == Start::follow)
        log_stderr(
            "directories that rules name are others now, and no generation could follow; it is tried again");
    if (generations_.active() != nullptr) return;
    const std::string reason = fmt::format("generation {} {}", failed.number(), describe_end(status));
    generations_.record_failed_start(reason);
    replace(reason, Clock::duration::zero());
}

void ReloadController::reload_failed(Generation& failed, int status) {
    ++facts_.failed_reloads;
    note_reload(CommandResult::failed);
    log_event("reload-failed", "the policy was not reloaded; the one before stays in force");
    answers_.give_all(std::exchange(current_askers_, {}),
                      is_invalid_policy(status) ? CommandResult::invalid : CommandResult::failed,
                      std::make_shared<const UniqueFd>(failed.report().take()));
    if (Generation* const active = generations_.active()) active->post(to_generation::ReloadFailed{status});
    service_manager_ready();
}

// A generation that only exists for the candidate, and cannot load it, is no loss.
void ReloadController::settle_shadow(CommandResult result, SharedFile said) {
    if (!shadow_order_) return;
    const ShadowOrder order = *std::exchange(shadow_order_, std::nullopt);
    if (result != CommandResult::done) generations_.set_shadow(order.before);
    answers_.give(order.asker, result, std::move(said));
}

void ReloadController::replace(const std::string& cause, Clock::duration age) {
    if (age > proven_after) restart_delay_.reset();
    log_event("crash", fmt::format("the broker of {}; starting another", cause));
    restart_reason_ = cause;
    if (generations_.starting() == nullptr) restart_later(cause);
}

void ReloadController::note_reload(CommandResult result) {
    facts_.last_reload = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
    facts_.last_reload_failed = result != CommandResult::done;
}

}  // namespace fdbroker::opener
