// SPDX-License-Identifier: MIT
// Workers that the opener starts and looks after (--workers).
//
// Each has a socket to the broker that nobody else can have. The child makes the pair itself after it has become the
// workers' user, since a socket says for ever who made it (SO_PEERCRED). One end goes to the supervisor over a channel;
// with the other the child becomes the program. The broker knows these connections by the pool's name, as it knows those of a
// listener.
//
// The supervisor interprets nothing that a worker's program writes: from the channel it takes one descriptor, before the
// program runs, and after that at most that there was an answer (--worker-watchdog). Standard output and standard error
// of all workers lead to one pipe, whose lines are copied to the opener's standard error.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "opener/base/backoff.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/config/options.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/child_output.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/legacy.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class WorkerPool {
  public:
    // A worker is about to begin; its connection is to be handed to the broker.
    using Connected = std::function<void(ConnectionId)>;

    // Looks the user up, which may block. `files` is the limit of descriptors that workers get; `listener` the index by
    // which the broker knows the pool. ENOENT: no such user; EINVAL: it is root; EPERM: not root, and another user.
    static proto::Result<std::unique_ptr<WorkerPool>> create(const WorkerOptions& options,
                                                             std::uint32_t listener, const rlimit& files,
                                                             ConnectionTable& connections, EventLoop& loop,
                                                             SupervisorFacts& facts, Connected connected);
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    const std::string& name() const noexcept { return options_.name; }
    // As soon as somebody serves.
    void start();
    // For a program that this process executes next.
    std::vector<LeftWorker> left() const;
    unsigned count() const noexcept { return count_; }
    // Workers that the program before this one has left. Instead of start(), which does nothing then.
    void inherit(unsigned count, const std::vector<LeftWorker>& left, Inheritance& inheritance);
    // The channels, to stay open over execve(2).
    std::vector<proto::BorrowedFd> channels() const;
    std::vector<pid_t> pids() const;
    // The reading end of the pipe that workers write to, to stay open as well.
    proto::BorrowedFd output() const noexcept { return output_.output.descriptor(); }
    // How many there shall be. False: more than max_workers.
    bool set_count(unsigned count);

    // A child has ended; false: it was no worker.
    bool reaped(pid_t pid, int status);
    // The broker has ended this session. A worker cannot get another, so it is ended as well.
    void connection_ended(ConnectionId connection_id);

    // SIGTERM to all, SIGKILL to those that do not end; none is started again.
    void stop();
    bool stopped() const noexcept;

  private:
    using Clock = std::chrono::steady_clock;
    struct User {
        uid_t uid = 0;
        gid_t gid = 0;
        std::vector<gid_t> groups{};
        std::string name{};
        std::vector<std::string> environment{};  // as environ(7)
        bool changes = true;
    };
    struct Worker {
        Worker(WorkerPool& pool, EventLoop& loop);

        pid_t pid = 0;  // 0: not running
        proto::UniqueFd channel{};
        Source source{};                 // the channel's
        ConnectionId connection_id = 0;  // 0: not handed over yet
        std::uint32_t starts = 0;
        Clock::time_point started{};
        Backoff delay;
        Timer start_at;
        Timer ask_at;
        Timer answer_by;
        Timer kill_at;
    };

    WorkerPool(const WorkerOptions& options, User user, ChildOutput::Pair output, std::uint32_t listener,
               const rlimit& files, ConnectionTable& connections, EventLoop& loop, SupervisorFacts& facts,
               Connected connected)
        : options_(options),
          user_(std::move(user)),
          output_(std::move(output)),
          listener_(listener),
          files_(files),
          connections_(connections),
          loop_(loop),
          facts_(facts),
          connected_(std::move(connected)) {}

    static proto::Result<User> find_user(const WorkerOptions& options);
    static proto::Result<User> user_of(const SystemAccounts::User& account, const WorkerOptions& options);
    void inherit_output(proto::UniqueFd reading);
    proto::Result<void> watch_output();
    void become_writer() const;
    void set_environment() const;
    bool watch(Worker& worker);
    void hear(Worker& worker);
    void start_worker(Worker& worker);
    void ask(Worker& worker, Clock::time_point now);
    void kill_silent(Worker& worker) const;
    [[noreturn]] void become_worker(proto::BorrowedFd channel) const;
    void take_connection(Worker& worker);
    void start_later(Worker& worker);
    void end(Worker& worker);
    static void forget_channel(Worker& worker);
    void tell_facts() noexcept;

    const WorkerOptions& options_;
    User user_;
    // The writing end stays open, so that the pipe does not end between two workers.
    ChildOutput::Pair output_;
    Source output_source_{};
    std::uint32_t listener_;
    rlimit files_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    SupervisorFacts& facts_;
    Connected connected_;
    std::vector<std::unique_ptr<Worker>> workers_{};  // those above count_ end
    unsigned count_ = 0;
    bool inherited_ = false;
    bool stopping_ = false;
};

}  // namespace fdbroker::opener
