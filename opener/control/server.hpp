// SPDX-License-Identifier: MIT
// The control socket, as the confined broker serves it: who is connected to it, their commands and their watches.
//
// The server's part of the broker's loop is bounded: a client that sends without end or does not read waits, nobody else.
// The cost of a turn is paid back in time in which the server asks for no turn.
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

// Peers that may control the opener: root, whoever runs the opener, and the members of one group.
struct ControlAccess {
    uid_t opener_uid = 0;
    std::optional<gid_t> group{};
    std::optional<gid_t> metrics_group{};  // the group that may ask for metrics, and nothing else
};

class ControlServer {
  public:
    using Clock = std::chrono::steady_clock;

    // Serves by `loop`, which outlives the server.
    ControlServer(ControlAccess access, EventLoop& loop)
        : access_(access), loop_(loop), turn_(loop.timer([this](Clock::time_point) { serve_lines(); })) {}
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;

    // Before the first client. All of it must outlive the server.
    void begin(const GenerationFacts& facts, ControlHost& host) noexcept;

    // A connection that the supervisor has accepted, or that an earlier generation had, with that one's note.
    void adopt(ConnectionId connection_id, proto::UniqueFd socket, std::uint64_t note);

    bool is_watched() const noexcept { return watchers_ != 0; }
    void publish(const DecisionRecord& decision, pid_t pid, const policy::PeerIdentity& peer);
    // Sends on what was published. To be called after each turn of the loop.
    void flush_watchers() {
        if (published_) send_published();
    }

    // The supervisor has done what a client asked for, or has not; `said`, which may be empty, tells why.
    void settle(ConnectionId connection_id, CommandResult result, proto::UniqueFd said);
    // Gets all connections ready for the next generation.
    void hand_over();

  private:
    bool watch(ControlClient& client);
    void hear(ControlClient& client, Events events);
    void serve_lines();
    ControlClient::Rights rights_of(proto::BorrowedFd socket) const;
    void obey(ControlClient& client, std::string_view line);
    void set_workers(ControlClient& client, const ControlLine& line);
    void take_over(ControlClient& client, const ControlLine& line);
    void shadow(ControlClient& client, const ControlLine& line);
    bool is_root(const ControlClient& client) const;
    void answer_metrics(ControlClient& client, bool as_json);
    void wait(ControlClient& client, const ControlNote& note);
    void send_published();
    void remove_finished();

    ControlAccess access_;
    EventLoop& loop_;
    const GenerationFacts* facts_ = nullptr;
    ControlHost* host_ = nullptr;
    std::vector<std::unique_ptr<ControlClient>> clients_{};
    std::vector<ControlClient*> ready_{};  // may have another line
    Clock::time_point rest_until_{};
    Timer turn_;  // when one of these is ready, after the rest
    std::size_t watchers_ = 0;
    bool published_ = false;
    std::uint64_t lost_ = 0;  // by watchers that have gone
    std::vector<char> room_ = std::vector<char>(max_control_line + 1);
};

}  // namespace fdbroker::opener
