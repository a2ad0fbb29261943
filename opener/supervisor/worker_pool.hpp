// SPDX-License-Identifier: MIT
// Workers that the opener starts and looks after (--workers).
//
// Each has a socket to the broker that nobody else can have: the child makes the pair itself after it has become the
// workers' user, since a socket says for ever who made it (SO_PEERCRED), hands one end to the supervisor over a channel,
// and becomes the program with the other. The broker knows these connections by the pool's name, as it knows those of a
// listener.
//
// The supervisor reads nothing that a worker's program writes: from the channel it takes one descriptor, before the
// program runs, and after that at most that there was an answer (--worker-watchdog).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/config/options.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/legacy.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class WorkerPool {
  public:
    // Looks the user up, which may block. `files` is the limit of descriptors that workers get; `listener` the index by
    // which the broker knows the pool. ENOENT: no such user; EINVAL: it is root; EPERM: not root, and another user.
    static proto::Result<std::unique_ptr<WorkerPool>> create(const WorkerOptions& options,
                                                             std::uint32_t listener, const rlimit& files,
                                                             ConnectionTable& connections, EventLoop& loop,
                                                             SupervisorFacts& facts);
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;
    ~WorkerPool();

    const std::string& name() const noexcept { return options_.name; }
    // As soon as somebody serves.
    void start();
    // For a program that this process executes next.
    std::vector<LeftWorker> left() const;
    unsigned count() const noexcept { return count_; }
    // What the program that this process executed before has left. Instead of start(), which does nothing then.
    void inherit(unsigned count, const std::vector<LeftWorker>& left, Inheritance& inheritance);
    // The channels, to stay open over execve(2).
    std::vector<proto::BorrowedFd> channels() const;
    // How many there shall be. False: more than max_workers.
    bool set_count(unsigned count);

    bool owns(const void* tag) const noexcept;
    // Of an event that it owns: the connection of a worker that is about to begin, to be handed to the broker.
    std::optional<ConnectionId> serve(const void* tag);
    // A child has ended; false: it was no worker.
    bool reaped(pid_t pid, int status);
    // The broker has ended this session. A worker cannot get another, so it is ended as well.
    void connection_ended(ConnectionId token);

    std::optional<std::chrono::steady_clock::time_point> again_at() const noexcept;
    void act_on_time(std::chrono::steady_clock::time_point now);

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
        std::vector<std::string> environment{};  // of environ(7)
        bool changes = true;
    };
    struct Worker {
        pid_t pid = 0;  // 0: not running
        proto::UniqueFd channel{};
        ConnectionId token = 0;  // 0: not handed over yet
        std::uint32_t starts = 0;
        Clock::time_point started{};
        std::chrono::milliseconds delay{0};
        std::optional<Clock::time_point> start_at{};
        std::optional<Clock::time_point> ask_at{};
        std::optional<Clock::time_point> answer_by{};
        std::optional<Clock::time_point> kill_at{};
    };

    WorkerPool(const WorkerOptions& options, User user, std::uint32_t listener, const rlimit& files,
               ConnectionTable& connections, EventLoop& loop, SupervisorFacts& facts)
        : options_(options),
          user_(std::move(user)),
          listener_(listener),
          files_(files),
          connections_(connections),
          loop_(loop),
          facts_(facts) {}

    static proto::Result<User> find_user(const WorkerOptions& options);
    static proto::Result<User> user_of(const SystemAccounts::User& account, const WorkerOptions& options);
    void set_environment() const;
    void start_worker(Worker& worker);
    [[noreturn]] void become_worker(proto::BorrowedFd channel) const;
    std::optional<ConnectionId> take_connection(Worker& worker);
    void start_later(Worker& worker);
    void end(Worker& worker);
    void forget_channel(Worker& worker);
    void tell_facts() noexcept;

    const WorkerOptions& options_;
    User user_;
    std::uint32_t listener_;
    rlimit files_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    SupervisorFacts& facts_;
    std::vector<std::unique_ptr<Worker>> workers_{};  // those above count_ end
    unsigned count_ = 0;
    bool inherited_ = false;
    bool stopping_ = false;
};

}  // namespace fdbroker::opener
