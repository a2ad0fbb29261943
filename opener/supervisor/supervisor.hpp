// SPDX-License-Identifier: MIT
// The process that root starts: it binds the sockets, starts generations and looks after them, keeps a duplicate of every
// connection, and writes the audit log. It acts on signals and on the link's fixed messages, and parses nothing that
// comes from a peer or from the policy.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/base/log_stderr.hpp"
#include "opener/config/invocation.hpp"
#include "opener/config/options.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/acceptor.hpp"
#include "opener/supervisor/command_answers.hpp"
#include "opener/supervisor/connection_intake.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/generation_manager.hpp"
#include "opener/supervisor/head_publisher.hpp"
#include "opener/supervisor/legacy.hpp"
#include "opener/supervisor/listener.hpp"
#include "opener/supervisor/process_usage.hpp"
#include "opener/supervisor/program_trial.hpp"
#include "opener/supervisor/reload_controller.hpp"
#include "opener/supervisor/stopped_processes.hpp"
#include "opener/supervisor/unserved_control.hpp"
#include "opener/supervisor/worker_pool.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class Supervisor final : GenerationManager::Owner {
  public:
    Supervisor(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
               AuditLog log, EventLoop loop, proto::UniqueFd signals, FactsPage facts, const rlimit& files,
               Inheritance inheritance);

    ExitStatus run();

  private:
    // The owner of the connections when this opener ends.
    enum class Heir : std::uint8_t {
        none,             // they end
        service_manager,  // keeps them for the next opener
        successor,        // the program that this process executes next
    };

    // supervisor.cpp: the loop, signals and the stop

    proto::Result<void> watch();
    void serve_until_stopped();
    void end_connections() const noexcept;
    void handle_signals();
    void reap();
    void take_incoming(std::size_t listener);
    void drain_audit();
    void end_stopped_processes();
    std::string why_unserved();
    void stop(Heir heir);
    void retire();
    // Workers stay with this process, whatever program it executes.
    bool may_retire() const {
        return (heir_ == Heir::successor || !workers_ || workers_->stopped()) && intake_->idle();
    }

    // supervisor_generations.cpp: events of generations, and the table of their messages

    void heard(const ToSupervisor& message, GenerationManager::Phase phase) override;
    void activated(GenerationManager::Start cause) override;
    void first_activated();
    void start_failed(Generation& failed, GenerationManager::Start cause, int status) override;
    void crashed(const Generation& ended, int status) override;
    void handed_over_to_none(std::uint32_t number) override;
    void directories_changed() override { reload_.look_at_directories(); }
    void release(const to_supervisor::Release& message);
    void take_pong(const to_supervisor::Pong& message);
    void reload(const to_supervisor::Reload& message);
    void take_over(const to_supervisor::TakeOver& message);
    void shut_down(const to_supervisor::Shutdown& message);
    void set_workers(const to_supervisor::SetWorkers& message);
    void shadow(const to_supervisor::Shadow& message);
    void avoid_uid(const to_supervisor::UidTaken& message);
    void renew();
    void measure();

    // supervisor_succession.cpp: taking the place of another opener, and leaving one's own

    void inherit();
    void inherit_connection(const LeftConnection& left, Inheritance& inheritance);
    std::optional<std::uint32_t> listener_called(const std::string& name, bool controls) const;
    static Heir heir_of_end();
    Legacy legacy() const;
    bool is_left(const Connection& connection) const;
    void leave_to_service_manager();
    void become_successor();
    void go_on(const proto::Error& obstacle);
    static void forget_stored();

    const Options& options_;
    const Invocation& invocation_;
    Inheritance inheritance_;  // until inherit()
    rlimit worker_files_;
    AuditLog log_;
    EventLoop loop_;
    proto::UniqueFd signals_;
    Source signals_source_{};
    FactsPage facts_;
    HeadPublisher head_{facts_.facts(), log_event};
    ConnectionTable connections_{};
    Acceptor acceptor_;
    GenerationManager generations_;
    CommandAnswers answers_{generations_};
    ReloadController reload_;
    UnservedControl unserved_control_;
    ProgramTrial trial_;
    std::unique_ptr<ConnectionIntake> intake_{};  // from the start of run()
    std::unique_ptr<WorkerPool> workers_{};       // null: --workers is not given
    UsageMeter usage_{};
    StoppedProcesses stopped_processes_{};
    Timer look_for_stopped_ = loop_.timer([this](Timer::Clock::time_point) { end_stopped_processes(); });
    // For records that no ring wakes for, and for the head of the log.
    Timer drain_ = loop_.timer([](Timer::Clock::time_point) {});

    bool stopping_ = false;
    bool retiring_ = false;  // the generations have been told to stop; workers end before that
    Heir heir_ = Heir::none;
    int signal_for_successor_ = 0;  // that came too late for this program; 0: none
    ExitStatus exit_status_ = exit_done;
};

// Serves until SIGTERM or SIGINT. The result is the process's exit status: exit_policy when the first generation
// could not load its policy. Blocks the signals that it handles and leaves them blocked.
ExitStatus supervise(const Options& options, const Invocation& invocation, std::vector<Listener> listeners,
                     Inheritance inheritance);

}  // namespace fdbroker::opener
