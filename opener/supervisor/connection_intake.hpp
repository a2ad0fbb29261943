// SPDX-License-Identifier: MIT
// Connections from their acceptance until a generation has them: meanwhile the names of their peers are looked up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "opener/base/event_loop.hpp"
#include "opener/base/repeats.hpp"
#include "opener/config/options.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/generation_manager.hpp"
#include "opener/supervisor/name_lookup.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class ConnectionIntake {
  public:
    using Clock = std::chrono::steady_clock;

    // Forks the name service. `control_handed_on` is called behind a control connection that goes to a generation.
    static proto::Result<std::unique_ptr<ConnectionIntake>> start(const Options& options, EventLoop& loop,
                                                                  SupervisorFacts& facts,
                                                                  ConnectionTable& connections,
                                                                  GenerationManager& generations,
                                                                  std::function<void()> control_handed_on);
    ConnectionIntake(const ConnectionIntake&) = delete;
    ConnectionIntake& operator=(const ConnectionIntake&) = delete;

    // A connection that comes while no generation serves, or that waits for its names then, goes to the next one with all
    // others.
    void take_in(ConnectionId connection_id);
    // Whether no connection waits for its names.
    bool idle() const noexcept { return names_->idle(); }

  private:
    ConnectionIntake(SupervisorFacts& facts, ConnectionTable& connections, GenerationManager& generations,
                     std::function<void()> control_handed_on)
        : facts_(facts),
          connections_(connections),
          generations_(generations),
          control_handed_on_(std::move(control_handed_on)) {}
    void settle();
    void hand_on(Generation& serving, ConnectionId connection_id, Connection& connection);
    void tell_unanswered(const NameQuestion& question);

    // Every look-up that was not answered is of the same kind.
    struct Unanswered {
        explicit Unanswered(const NameQuestion& /*question*/) noexcept {}
        static bool is_like(const NameQuestion& /*question*/) noexcept { return true; }
        void keep(const NameQuestion& /*question*/) noexcept {}
    };

    SupervisorFacts& facts_;
    ConnectionTable& connections_;
    GenerationManager& generations_;
    std::function<void()> control_handed_on_;
    std::unique_ptr<NameLookup> names_{};
    // A message a minute; the metric counts.
    Repeats<Unanswered> unanswered_told_{{.whole = 1, .kinds = 1, .interval = std::chrono::minutes(1)}};
};

}  // namespace fdbroker::opener
