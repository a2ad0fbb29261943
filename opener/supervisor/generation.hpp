// SPDX-License-Identifier: MIT
// A generation as its supervisor sees it: the process, the link to it with what that has no room for yet, its in-flight log and
// its ring of audit records.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_sink.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/link/generation_start.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "opener/link/start_report.hpp"
#include "opener/policy_source/policy_snapshot.hpp"
#include "opener/supervisor/child_output.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

using SharedFile = std::shared_ptr<const proto::UniqueFd>;

// A generation that was told to end or to hand over does so well within this (broker_end.cpp); else it is killed.
inline constexpr std::chrono::seconds generation_killed_after{5};
// A generation that a filesystem holds uninterruptibly does not end when it is killed. It never runs again, so after this
// long nobody waits for it any more.
inline constexpr std::chrono::seconds generation_abandoned_after{1};

class Generation {
  public:
    struct Hooks {
        std::function<void(Generation&)> spoke;     // by its link, or on its standard error
        std::function<void()> directories_changed;  // see directories(); of one that is activated
    };
    // Forks the process. `loop` watches the link; `connections` has those that messages adopt. Both outlive the generation.
    static proto::Result<std::unique_ptr<Generation>> start(GenerationOrders orders,
                                                            ConnectionTable& connections, EventLoop& loop,
                                                            Hooks hooks);

    Generation(const Generation&) = delete;
    Generation& operator=(const Generation&) = delete;
    ~Generation();

    std::uint32_t number() const noexcept { return number_; }
    bool is(pid_t pid) const noexcept { return pid == pid_; }
    pid_t pid() const noexcept { return pid_; }  // 0: it has been reaped
    void kill() const noexcept;
    // The process has been reaped, so that its pid may be another's, or nobody waits for that any more.
    void reaped() {
        finish_output();
        pid_ = 0;
    }
    bool is_there() const noexcept { return pid_ != 0; }
    std::chrono::steady_clock::duration age() const noexcept {
        return std::chrono::steady_clock::now() - since_;
    }
    // From now on its age counts, and directories and audit records are watched.
    void activated();
    // The generation serves no more, and directories are no longer its concern.
    void handed_over();
    // Whether a directory that its rules name has become another. `unknown`: nobody looks any more.
    enum class Directories : std::uint8_t { same, changed, unknown };
    Directories directories();

    // Copies what its processes have written to their standard error by now.
    void copy_output();

    // Queues a message, with a file where one goes with it, and sends what the link has room for. Never waits: what is
    // left goes when the link has room.
    void post(const ToGeneration& message, SharedFile file = {});
    void queue(const ToGeneration& message, SharedFile file = {}) {
        outbox_.push_back({message, std::move(file)});
    }
    void send_queued();
    std::size_t queued() const noexcept { return outbox_.size(); }

    // As LinkEnd::receive(). After an error there is nothing more to hear: it has ended, or behaves as only one that was
    // taken over does, and is killed; SIGCHLD tells the rest.
    std::optional<SupervisorLink::Received> receive();

    // Limits that the generation told when it was ready.
    struct Limits {
        unsigned connections_per_uid = 0;
        unsigned connections_total = 0;
        AuditRotation rotation{};
    };
    bool is_ready() const noexcept { return limits_.has_value(); }
    const Limits& limits() const { return limits_.value(); }  // once it is ready
    void ready(const Limits& limits) noexcept { limits_ = limits; }

    InflightLog& inflight() noexcept { return *inflight_; }
    AuditRing* ring() noexcept { return ring_ ? &*ring_ : nullptr; }
    // For the time after it.
    std::unique_ptr<InflightLog> take_inflight() noexcept { return std::move(inflight_); }
    // The policy that it serves by; there once it is ready.
    const std::shared_ptr<PolicySnapshot>& policy() const noexcept { return policy_; }
    StartReport& report() noexcept { return report_; }

  private:
    struct Parts {
        SupervisorLink link;
        proto::UniqueFd changes;
        ChildOutput output;
        InflightLog inflight;
        std::optional<AuditRing> ring;
        StartReport report;
        std::shared_ptr<PolicySnapshot> policy;
    };
    static proto::Result<Parts> make_parts(const GenerationOrders& orders, SupervisorLink link,
                                           proto::UniqueFd changes, ChildOutput output);
    proto::Result<void> watch();
    void finish_output();
    Generation(std::uint32_t number, Parts parts, ConnectionTable& connections, EventLoop& loop, Hooks hooks);

    struct Queued {
        ToGeneration message;
        SharedFile file;
    };

    std::uint32_t number_;
    pid_t pid_ = 0;  // 0: not running
    SupervisorLink link_;
    proto::UniqueFd changes_;  // readable: see Directories
    ChildOutput output_;
    std::unique_ptr<InflightLog> inflight_;
    std::optional<AuditRing> ring_;
    StartReport report_;
    std::shared_ptr<PolicySnapshot> policy_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    Hooks hooks_;
    Source link_source_{};
    Source output_source_{};
    Source changes_source_{};
    Source ring_source_{};
    std::optional<Limits> limits_{};
    std::chrono::steady_clock::time_point since_{};
    std::deque<Queued> outbox_{};  // messages that wait for room in the link, oldest first
};

}  // namespace fdbroker::opener
