// SPDX-License-Identifier: MIT
// When another generation starts, and of what: a reload or a candidate that was asked for, a restart after a crash, or
// directories that rules name and that have become others. Whoever asked is answered.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "opener/base/backoff.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/command_answers.hpp"
#include "opener/supervisor/generation_manager.hpp"

namespace fdbroker::opener {

class ReloadController {
  public:
    using Clock = std::chrono::steady_clock;
    using Start = GenerationManager::Start;

    // `hopeless` is called when no generation serves and none can be started.
    ReloadController(GenerationManager& generations, CommandAnswers& answers, SupervisorFacts& facts,
                     EventLoop& loop, std::function<void(ExitStatus)> hopeless);
    ReloadController(const ReloadController&) = delete;
    ReloadController& operator=(const ReloadController&) = delete;

    // The first generation of this opener.
    void begin(const std::string& reason) { start(Start::first, reason); }

    // After a stop() that came to nothing.
    void go_on(const std::string& reason) {
        stopped_ = false;
        begin_again(reason);
    }

    // A reload, as soon as no generation starts any more: one that does may have read the policy before it became what
    // the reload is about.
    void reload() { reload_at(Clock::now()); }
    // The same for somebody at the control socket, at most once a second.
    void reload_for(ConnectionId asker);
    // A candidate decides beside the policy in force, or with an empty name none any more; at most once a second. An order
    // that comes while another is carried out is refused.
    void shadow_for(ConnectionId asker, std::string file);
    // Askers who wait for an answer.
    std::vector<ConnectionId> askers() const;
    // Looks whether the directories that rules name have become others.
    void look_at_directories();
    // Another generation beside the one that serves, later and later, as after crashes: a broker that was taken over may
    // ask without end.
    void renew(const std::string& reason);
    // None of these any more.
    void stop();

    // Sets the timer of the next start; for when the state of generations may have changed.
    void schedule();

    // ---- events of generations ----

    void activated(Start cause);
    void start_failed(Generation& failed, Start cause, int status);
    // The generation that served is no more, and another follows; `age`: for how long it had served.
    void replace(const std::string& cause, Clock::duration age);

    // The reason of the next or latest restart, and the time of the next one; empty: none was needed of late.
    const std::string& restart_reason() const noexcept { return restart_reason_; }
    std::optional<Clock::time_point> restart_at() const noexcept { return restart_at_; }

  private:
    // By the policy in force where there is one.
    void begin_again(const std::string& reason) {
        start(generations_.policy() ? Start::restart : Start::first, reason);
    }
    void reload_at(Clock::time_point when);
    void start(Start cause, const std::string& reason);
    void start_next(Clock::time_point now);
    void restart_later(const std::string& reason);
    void note_reload(CommandResult result);
    void reload_failed(Generation& failed, int status);
    void start_shadow();
    void settle_shadow(CommandResult result, SharedFile said = {});

    GenerationManager& generations_;
    CommandAnswers& answers_;
    SupervisorFacts& facts_;
    std::function<void(ExitStatus)> hopeless_;
    bool stopped_ = false;
    Timer next_start_;

    std::optional<Clock::time_point> reload_at_{};
    Clock::time_point last_reload_{};
    std::vector<ConnectionId> next_askers_{};     // for the next reload
    std::vector<ConnectionId> current_askers_{};  // for the reload whose generation starts

    struct ShadowOrder {
        ConnectionId asker = 0;
        std::string file{};
        std::string before{};  // the candidate until then
        Clock::time_point at{};
    };
    std::optional<ShadowOrder> shadow_order_{};

    std::optional<Clock::time_point> restart_at_{};
    Backoff restart_delay_;
    std::string restart_reason_{};

    // Null: the directories are as the active generation has bound them.
    std::optional<Clock::time_point> follow_at_{};
    Clock::time_point last_follow_{};
    Backoff follow_delay_;
};

}  // namespace fdbroker::opener
