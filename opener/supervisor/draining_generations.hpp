// SPDX-License-Identifier: MIT
// Generations that have handed over and live on until their helpers have done what was begun, as the supervisor sees
// them. They have no connections that are their own, and nothing that they say is listened to: their records, their
// journals and their ends tell all.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/supervisor/generation.hpp"

namespace fdbroker::opener {

class DrainingGenerations {
  public:
    using Clock = std::chrono::steady_clock;

    // Above this the oldest is told to give up what it waits for.
    static constexpr std::size_t most = 4;

    bool empty() const noexcept { return all_.empty(); }
    std::size_t size() const noexcept { return all_.size(); }

    // Its tag is its own address from now on. `records`: how many it may make.
    void add(std::unique_ptr<Generation> generation, std::uint64_t records);
    // Whether an event with this tag is about one of them; then it is seen to.
    bool serve(const void* tag, std::uint32_t events, std::size_t max_messages);
    // The one with this pid, which has been reaped; null: it is none of them.
    std::unique_ptr<Generation> reaped(pid_t pid);
    // Kills those that take too long. One that was killed, has not ended and is not waited for any more is returned.
    std::unique_ptr<Generation> act_on_time(Clock::time_point now);
    // Kills those that have put in what is no record.
    void kill_foul(const AuditLog& log);
    std::optional<Clock::time_point> again_at() const noexcept;
    // Has them all end by then, whatever is unfinished.
    void retire(std::chrono::milliseconds timeout);

    // What a generation that is started or activated must know of them.
    std::vector<EarlierGeneration> predecessors() const;
    // What they had taken and not given to helpers is about to be answered: before the answer to this ping.
    void told_with(std::uint64_t ping);
    void answered(std::uint64_t ping);

  private:
    struct Finishing {
        std::unique_ptr<Generation> generation;
        Clock::time_point kill_at;
        bool killed = false;
        bool gives_up = false;
        std::uint64_t told_with = 0;  // 0: has been answered, or nobody is told yet
    };
    static void kill(Finishing& one);
    static void give_up_by(Finishing& one, std::chrono::milliseconds timeout);

    std::vector<Finishing> all_{};  // oldest first
};

}  // namespace fdbroker::opener
