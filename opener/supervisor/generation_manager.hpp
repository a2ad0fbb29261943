// SPDX-License-Identifier: MIT
// The generations: one that starts, one that serves, and those that drain. The manager starts and activates them, has one
// hand over to the next, and reaps or kills them. ReloadController decides when another one starts, and of what.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/config/options.hpp"
#include "opener/link/generation_start.hpp"
#include "opener/link/messages.hpp"
#include "opener/policy_source/policy_snapshot.hpp"
#include "opener/supervisor/broker_liveness.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/draining_generations.hpp"
#include "opener/supervisor/generation.hpp"
#include "opener/supervisor/lost_generations.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class GenerationManager {
  public:
    using Clock = std::chrono::steady_clock;

    // The cause of a start, which decides what is loaded: for `first` and `reload` the files, else the policy in force.
    enum class Start : std::uint8_t { first, reload, restart, follow, shadow };
    // Phases of a generation that sends messages (supervisor_messages.cpp).
    enum class Phase : std::uint8_t { loading, ready, serving, handing_over };

    class Owner {
      public:
        virtual ~Owner() = default;
        virtual void heard(const ToSupervisor& message, Phase phase) = 0;
        // A generation serves; its connections are on their way to it.
        virtual void activated(Start cause) = 0;
        // A generation ended before it was ready; `status` as waitpid(2) tells it.
        virtual void start_failed(Generation& failed, Start cause, int status) = 0;
        // The generation that served has ended, and no other is ready.
        virtual void crashed(const Generation& ended, int status) = 0;
        // The generation that served has handed over, and no other is ready.
        virtual void handed_over_to_none(std::uint32_t number) = 0;
        virtual void directories_changed() = 0;
    };

    GenerationManager(const Options& options, AuditLog& log, EventLoop& loop, FactsPage& facts,
                      ConnectionTable& connections, Owner& owner);

    GenerationManager(const GenerationManager&) = delete;
    GenerationManager& operator=(const GenerationManager&) = delete;

    // Before the first start: the listening sockets as generations know them.
    void set_listeners(std::vector<ListenerFacts> listeners) { listeners_ = std::move(listeners); }
    // Before the first start: the estate of an opener whose place this one takes.
    void inherit(const Legacy& legacy, std::shared_ptr<PolicySnapshot> policy);
    std::vector<LeftInflightLog> left_inflight_logs() const { return lost_.left(); }

    // No generation may be starting. An error: none starts.
    proto::Result<void> start(Start cause, const std::string& reason);
    // The candidate that generations load beside the policy; empty: none. Where a generation starts for it (Start::shadow),
    // one that does not load is an error.
    const std::string& shadow() const noexcept { return shadow_; }
    void set_shadow(std::string file) { shadow_ = std::move(file); }
    // From now on no broker runs as this uid.
    void avoid(uid_t uid);

    // The generation that serves, and is to get connections and messages; null: none.
    Generation* serving() noexcept { return handing_over_ ? nullptr : active_.get(); }
    // The generation that serves or hands over; null: none.
    Generation* active() noexcept { return active_.get(); }
    // The generation that loads, or waits for the active one to hand over; null: none.
    Generation* starting() noexcept { return starting_.get(); }
    bool is_handing_over() const noexcept { return handing_over_; }
    std::size_t draining() const noexcept { return draining_.size(); }
    bool none() const noexcept { return !active_ && !starting_ && draining_.empty(); }
    // Whether a generation of this opener has ever served.
    bool has_served() const noexcept { return has_served_; }
    std::uint32_t last_number() const noexcept { return last_number_; }
    // The policy in force; null: none ever was.
    const std::shared_ptr<PolicySnapshot>& policy() const noexcept { return policy_; }

    // Sends a ping to the generation that serves; the result is its number.
    std::uint64_t ping();

    // ---- messages of the generation that serves or starts ----

    void take_limits(const to_supervisor::Ready& message);
    void handed_over(const to_supervisor::HandedOver& message);
    void answered(const to_supervisor::Pong& message);

    // A child has ended; false: it was no generation.
    bool reaped(pid_t pid, int status);
    // Puts on record that a generation could not start while none serves.
    void record_failed_start(const std::string& reason) { log_.record("start-failed", reason); }
    // Kills generations that have put something else than records into their rings.
    void kill_corrupt();

    enum class Farewell : std::uint8_t { retire, hand_over };
    // The opener stops: whatever starts ends, whatever drains gives up, and the generation that serves ends or hands over.
    // Has no effect on one that hands over already.
    void retire(Farewell farewell);

  private:
    using Slot = std::unique_ptr<Generation> GenerationManager::*;

    GenerationOrders orders_of(Start cause, const std::string& reason);
    void hear(Generation& generation);
    void serve(Slot slot, std::size_t max_messages);
    Phase phase_of(Slot slot) const noexcept;
    void activate();
    void hand_connections_on();
    void ended(Slot slot, int status);
    void drained(Generation& ended, int status);
    void end_start();
    void kill_active(Clock::time_point now);
    void ask_whether_it_lives(Clock::time_point now);

    const Options& options_;
    AuditLog& log_;
    EventLoop& loop_;
    FactsPage& facts_;
    ConnectionTable& connections_;
    Owner& owner_;
    std::vector<ListenerFacts> listeners_{};

    std::unique_ptr<Generation> active_{};
    std::unique_ptr<Generation> starting_{};
    Start cause_ = Start::first;  // why `starting_` starts
    bool handing_over_ = false;
    DrainingGenerations draining_;
    LostGenerations lost_{};
    BrokerLiveness liveness_{};
    std::shared_ptr<PolicySnapshot> policy_{};
    std::string shadow_ = options_.shadow;
    std::deque<uid_t> avoided_uids_{};  // latest last
    std::uint32_t last_number_ = 0;
    std::uint64_t last_ping_ = 0;
    bool has_served_ = false;

    Timer ready_by_;  // the generation that starts
    Timer kill_;      // the active generation
    Timer abandon_;   // the active generation, once it was killed
    Timer ping_;
};

}  // namespace fdbroker::opener
