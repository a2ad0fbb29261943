// SPDX-License-Identifier: MIT
// The process that root starts: it binds the sockets, starts generations and looks after them, keeps a duplicate of every
// connection, and writes the audit log. It acts on signals and on the link's fixed messages, and parses nothing that
// comes from a peer or from the policy.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/config/invocation.hpp"
#include "opener/config/options.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/policy_source/policy_snapshot.hpp"
#include "opener/supervisor/acceptor.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/draining_generations.hpp"
#include "opener/supervisor/generation.hpp"
#include "opener/supervisor/legacy.hpp"
#include "opener/supervisor/listener.hpp"
#include "opener/supervisor/name_lookup.hpp"
#include "opener/supervisor/worker_pool.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class Supervisor {
  public:
    Supervisor(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
               AuditLog log, EventLoop loop, proto::UniqueFd signals, FactsPage facts, const rlimit& files,
               Inheritance inheritance)
        : options_(options),
          invocation_(invocation),
          inheritance_(std::move(inheritance)),
          worker_files_(files),
          log_(std::move(log)),
          loop_(std::move(loop)),
          signals_(std::move(signals)),
          facts_(std::move(facts)),
          reception_(std::move(listeners), connections_, loop_, facts_.facts()) {}

    ExitStatus run();

  private:
    using Clock = std::chrono::steady_clock;
    using Slot = std::unique_ptr<Generation> Supervisor::*;

    // Why a generation is started, which decides what it loads: at first and for a reload the files, else what was kept
    // of them.
    enum class Start : std::uint8_t { first, reload, restart, follow };

    // supervisor.cpp: the loop, signals and time

    proto::Result<void> watch();
    void serve_until_stopped();
    void handle(const epoll_event& event);
    void handle_signals();
    void serve_worker(const void* tag);
    void directories_changed();
    void drain_audit();
    void act_on_time();
    void end_what_takes_too_long(Clock::time_point now);
    std::chrono::microseconds ping_interval() const;
    void ask_whether_it_lives(Clock::time_point now);
    void it_lives();
    // Who gets the connections when this opener ends.
    enum class Heir : std::uint8_t {
        none,             // they end
        service_manager,  // keeps them for the next opener
        successor,        // the program that this process executes next
    };
    void stop(Heir heir);
    void retire();
    int patience() const;

    // supervisor_names.cpp: connections, until a generation has them

    proto::Result<void> start_names();
    void take_in(ConnectionId token);
    void names_settled();
    // The generation that serves adopts it, and another gives way where it came to a full table.
    void hand_to_active(ConnectionId token, Connection& connection);
    void tell_unanswered(const NameQuestion& question);

    // supervisor_unserved.cpp: the control socket while no generation serves

    bool serves() const noexcept { return active_ && !handing_over_; }
    bool answers_control() const noexcept;
    void answer_unserved(Clock::time_point now);
    std::string why_unserved() const;

    // supervisor_succession.cpp: taking the place of another opener, and leaving one's own

    void inherit();
    std::optional<std::uint32_t> listener_called(const std::string& name, bool controls) const;
    static Heir heir_of_end();
    Legacy legacy() const;
    bool is_left(const Connection& connection) const;
    void leave_to_service_manager();

    // supervisor_take_over.cpp: the same process executes its program anew

    void try_out(ConnectionId asker);
    void tried_out(int status);
    void become_successor();
    void go_on(const proto::Error& obstacle);

    static void forget_stored();

    // supervisor_generations.cpp: from the start of a generation to its end

    void start_generation(Start why, const std::string& cause);
    void generation_ready();
    void activate();
    void handed_over(std::uint64_t records);
    void reap();
    void generation_ended(Slot slot, int status);
    void finishing_ended(Generation& ended, int status);
    void start_failed(Generation& failed, int status);
    void replace(const std::string& cause);
    void restart_later(const std::string& cause);
    void note_reload(CommandResult result);
    void tell_lost();
    void answered(std::uint64_t ping);

    // supervisor_messages.cpp: what generations say, and what is asked for at the control socket by way of them

    void serve(Slot slot, std::size_t most);
    void serve_message(const LinkMessage& message);
    void measure_processes();
    void set_workers(const LinkMessage& message);
    void avoid_uid(uid_t uid);
    void ask_for_reload(Clock::time_point when);
    void answer(ConnectionId asker, CommandResult result, SharedFile text = {});
    void answer_reload(CommandResult result, const SharedFile& text = {});

    bool workers_ended() const { return !workers_ || workers_->stopped(); }
    // Workers stay with this process, whatever program it executes.
    bool may_retire() const { return (heir_ == Heir::successor || workers_ended()) && names_->idle(); }
    bool stopped() const { return stopping_ && !active_ && !starting_ && finishing_.empty() && may_retire(); }

    const Options& options_;
    const Invocation& invocation_;
    Inheritance inheritance_;  // until inherit()
    rlimit worker_files_;
    AuditLog log_;
    EventLoop loop_;
    proto::UniqueFd signals_;
    FactsPage facts_;
    ConnectionTable connections_{};
    Acceptor reception_;
    std::optional<NameLookup> names_{};  // from the start of run()
    std::optional<Clock::time_point> unanswered_told_at_{};
    std::unique_ptr<WorkerPool> workers_{};  // null: --workers is not given

    std::unique_ptr<Generation> active_{};    // serves
    std::unique_ptr<Generation> starting_{};  // loads, or waits for the active one to hand over
    Start starting_for_ = Start::first;
    DrainingGenerations finishing_{};  // have handed over
    // Of a generation that ended, with what it had not answered, until another has.
    struct Lost {
        std::uint32_t number;
        std::unique_ptr<InflightLog> inflight;
        std::uint64_t told_with = 0;  // the ping whose answer says so; 0: nobody has been told
    };
    std::vector<Lost> lost_{};
    std::uint64_t last_ping_ = 0;
    std::deque<uid_t> avoided_uids_{};          // by brokers, latest last
    std::shared_ptr<PolicySnapshot> policy_{};  // in force; null: nothing ever served
    std::uint32_t last_number_ = 0;
    bool handing_over_ = false;
    bool has_served_ = false;
    bool stopping_ = false;
    Heir heir_ = Heir::none;  // once it stops
    bool retiring_ = false;   // the generations have been told to stop; workers end before that
    ExitStatus exit_status_ = exit_done;

    // Sent with a control connection and not answered yet: the broker's loop may stand still.
    struct ControlPing {
        std::uint64_t number;
        Clock::time_point sent;
    };
    std::optional<ControlPing> control_ping_{};
    std::optional<Clock::time_point> unserved_since_{};
    std::optional<Clock::time_point> answer_at_{};  // those who have asked and got no answer

    // A child that tries the program out before this process becomes it.
    struct Trial {
        pid_t pid;
        StartReport report;
        Clock::time_point kill_at;
    };
    std::optional<Trial> trial_{};
    std::vector<ConnectionId> take_over_askers_{};
    int signal_for_successor_ = 0;  // that came too late for this one; 0: none

    // As soon as no generation starts any more: one that does may have read the policy before it became what the
    // reload is about.
    std::optional<Clock::time_point> reload_at_{};
    Clock::time_point last_reload_{};
    Clock::time_point measured_at_{};
    std::vector<ConnectionId> reload_askers_{};        // of the next one
    std::vector<ConnectionId> starting_for_askers_{};  // of the one that starts
    struct Answer {
        LinkMessage message;
        SharedFile text;
    };
    std::vector<Answer> answers_{};  // for when a generation serves

    // When the next generation starts because of directories; null: they are as the active one has bound them.
    std::optional<Clock::time_point> follow_at_{};
    Clock::time_point last_follow_{};
    std::chrono::milliseconds follow_delay_{0};

    std::optional<std::chrono::milliseconds>
        delay_{};  // before the next restart; null: none was needed of late
    std::string restart_cause_{};
    std::optional<Clock::time_point> restart_at_{};
    std::optional<Clock::time_point> ready_by_{};    // the one that starts
    std::optional<Clock::time_point> kill_at_{};     // the active one
    std::optional<Clock::time_point> abandon_at_{};  // the active one, which was killed
    // The service manager hears that all is well when the broker's own loop has said so.
    const std::optional<std::chrono::microseconds> watchdog_ = watchdog_interval();
    std::optional<Clock::time_point> ping_at_{};
    Clock::time_point tell_service_manager_at_{};
    unsigned unanswered_ = 0;  // intervals in a row in which the active one has answered nothing
};

// Serves until SIGTERM or SIGINT. The result is the process's exit status: exit_policy when the first generation
// could not load its policy. Blocks the signals that it handles and leaves them blocked.
ExitStatus supervise(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
                     Inheritance inheritance);

}  // namespace fdbroker::opener
