// SPDX-License-Identifier: MIT
// The control socket, as the confined broker serves it: who is connected to it, their commands and their watches.
//
// Its part of the broker's loop is bounded: a client that sends without end or does not read waits, nobody else. What a
// turn of it costs is paid back in time in which it asks for no turn.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/base/event_loop.hpp"
#include "opener/control/client.hpp"
#include "opener/control/host.hpp"
#include "opener/control/line.hpp"

namespace fdbroker::opener {

// Who may control the opener: root, whoever runs the opener, and the members of one group.
struct ControlAccess {
    uid_t opener_uid = 0;
    std::optional<gid_t> group{};
    std::optional<gid_t> metrics_group{};  // whose members may ask for metrics, and nothing else
};

// A decision as a watcher sees it.
struct WatchedDecision {
    const DecisionRecord& record;
    pid_t pid = 0;
    const policy::PeerIdentity& peer;
};

class ControlServer {
  public:
    // The part that a confined process cannot make.
    static proto::Result<ControlServer> create(ControlAccess access);

    // Readable when serve() has something to do.
    proto::BorrowedFd descriptor() const noexcept { return loop_->descriptor(); }

    // Before the first client. All of it must outlive the server.
    void begin(const GenerationFacts& facts, ControlHost& host) noexcept;

    // A connection that the supervisor has accepted, or that an earlier generation had, with that one's note.
    void adopt(ConnectionId token, proto::UniqueFd socket, std::uint64_t note);
    void serve();
    // When serve() has something to do that no descriptor tells of.
    std::optional<std::chrono::steady_clock::time_point> again_at() const noexcept {
        return ready_.empty() ? std::nullopt : std::optional(rest_until_);
    }

    bool is_watched() const noexcept { return watchers_ != 0; }
    void publish(const WatchedDecision& decision);
    // Sends on what was published. To be called after each turn of the loop.
    void flush_watchers() {
        if (published_) send_published();
    }

    // The supervisor has done what a client asked for, or has not; `said`, which may be empty, tells why.
    void settle(ConnectionId token, CommandResult result, proto::UniqueFd said);
    // Gets all connections ready for the next generation.
    void hand_over();

  private:
    explicit ControlServer(ControlAccess access, EventLoop loop)
        : access_(access), loop_(std::make_unique<EventLoop>(std::move(loop))) {}

    ControlClient::Rights rights_of(proto::BorrowedFd socket) const;
    void obey(ControlClient& client, std::string_view line);
    void set_workers(ControlClient& client, const ControlLine& line);
    void take_over(ControlClient& client, const ControlLine& line);
    void answer_metrics(ControlClient& client, bool as_json);
    void wait(ControlClient& client, const ControlNote& note);
    void send_published();
    void remove_finished();

    ControlAccess access_;
    std::unique_ptr<EventLoop> loop_;
    const GenerationFacts* facts_ = nullptr;
    ControlHost* host_ = nullptr;
    std::vector<std::unique_ptr<ControlClient>> clients_{};
    std::vector<ControlClient*> ready_{};  // may have another line
    std::chrono::steady_clock::time_point rest_until_{};
    std::size_t watchers_ = 0;
    bool published_ = false;
    std::uint64_t lost_ = 0;  // by watchers that have gone
    std::vector<char> room_ = std::vector<char>(max_control_line + 1);
};

}  // namespace fdbroker::opener
