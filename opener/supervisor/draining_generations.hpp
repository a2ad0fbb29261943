// SPDX-License-Identifier: MIT
// Generations that have handed over and live on until their helpers have done what was begun, as the supervisor sees
// them. They have no connections that are their own, and nothing that they say is listened to: their records, their
// in-flight logs and their ends tell all.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/supervisor/generation.hpp"

namespace fdbroker::opener {

class DrainingGenerations {
  public:
    using Clock = std::chrono::steady_clock;

    // Above this the oldest is told to give up what it waits for.
    static constexpr std::size_t max_staying = 4;

    // Those that take too long are killed by timers of `loop`, which outlives this. `abandoned` hears of one that was
    // killed, has not ended and is not waited for any more.
    DrainingGenerations(EventLoop& loop, std::function<void(Generation&)> abandoned)
        : loop_(loop), abandoned_(std::move(abandoned)) {}

    bool empty() const noexcept { return all_.empty(); }
    std::size_t size() const noexcept { return all_.size(); }

    // `records`: how many the generation may make.
    void add(std::unique_ptr<Generation> generation, std::uint64_t records);
    // A draining generation has spoken: nothing that it says matters any more.
    static void serve(Generation& generation, std::size_t max_messages);
    // The one with this pid, which has been reaped; null: it is none of them.
    std::unique_ptr<Generation> reaped(pid_t pid);
    // Kills those that have put in what is no record.
    void kill_corrupt(const AuditLog& log);
    // Has them all end by then, whatever is unfinished.
    void retire(std::chrono::milliseconds timeout);

    // The logs that a generation must know when it is started or activated.
    std::vector<EarlierGeneration> inflight_logs() const;
    // Requests that they had taken and not given to helpers are answered before this ping.
    void told_with(std::uint64_t ping);
    void answered(std::uint64_t ping);

  private:
    struct Draining {
        std::unique_ptr<Generation> generation;
        Timer kill_at;  // once it was killed: the time at which it is abandoned
        bool killed = false;
        bool gives_up = false;
        std::uint64_t told_with = 0;  // 0: has been answered, or nobody is told yet
    };
    void time_is_up(Generation& generation);
    static void kill(Draining& one);
    static void give_up_by(Draining& one, std::chrono::milliseconds timeout);

    EventLoop& loop_;
    std::function<void(Generation&)> abandoned_;
    std::vector<Draining> all_{};  // oldest first
};

}  // namespace fdbroker::opener
