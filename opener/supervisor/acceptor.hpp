// SPDX-License-Identifier: MIT
// Where connections come in: the listening sockets, and who may have one more connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/base/repeats.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/generation.hpp"
#include "opener/supervisor/listener.hpp"
#include "opener/supervisor/rejected_connections.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// Says the last that a connection to the control socket hears. Never blocks.
void hang_up_with(proto::BorrowedFd socket, std::string_view text) noexcept;

// Connections for requests that a generation may have: what its policy says, as far as this process's limit of descriptors
// allows.
std::size_t max_connections(const Generation::Limits& limits);

// Hands the connection, which must be there and identified, to the generation; another gives way where that one is full.
void queue_adoption(Generation& generation, ConnectionTable& connections, ConnectionId connection_id);

class Acceptor {
  public:
    using Clock = std::chrono::steady_clock;

    struct Hooks {
        std::function<void(std::size_t listener)>
            incoming;                           // something waits at the listener with this index
        std::function<Generation*()> recorder;  // puts counts on record; null: nobody can now
    };
    // The counts go into `facts`.
    Acceptor(std::vector<Listener> listeners, ConnectionTable& connections, EventLoop& loop,
             SupervisorFacts& facts, Hooks hooks);

    // From now on connections that come are told to Hooks::incoming.
    proto::Result<void> watch();
    const std::vector<Listener>& listeners() const noexcept { return listeners_; }

    // Takes in connections that wait at the listener, a turn's share of them. The result is what `generation` shall have.
    // A user who has as many connections as that allows is told so.
    std::vector<ConnectionId> accept(std::size_t listener, Generation& generation);
    bool is_control(std::size_t listener) const noexcept;
    // Takes in connections that wait at the listener for control, a turn's share of them, says `text` and hangs up.
    void answer_controls(std::size_t listener, std::string_view text);
    // Connections that come wait in the backlog until resume().
    void pause();
    void resume() { pause_end_.set(Clock::time_point::min()); }
    // A connection has gone: if that is what was waited for, now is the time.
    void has_room() {
        if (pause_end_.due()) resume();
    }

    void close();
    // Nothing is told of connections any more; they wait for whoever gets the listeners. watch() takes that back.
    void leave();
    // For listeners that are paths: see Listener::leave_path().
    void leave_paths() noexcept;

  private:
    bool admit(const proto::UniqueFd& socket, Generation& generation, Connection& connection);
    void reject(const proto::UniqueFd& socket, Generation& generation, const RejectedConnection& whom);
    bool admit_control(const proto::UniqueFd& socket, std::uint32_t uid) const;
    void wait_for_room(Generation& generation, int cause);
    void report_later();
    void report(Clock::time_point now);
    void set_paused(bool paused);

    std::vector<Listener> listeners_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    SupervisorFacts& facts_;
    Repeats<RepeatedRejection> rejections_{{.whole = 1, .kinds = 64}};
    Repeats<RepeatedWait> waits_{{.whole = 1, .kinds = 8}};
    bool has_room_ = true;  // for another connection, as far as is known
    bool paused_ = false;
    Hooks hooks_;
    std::vector<Source> sources_{};  // the listeners', once they are watched
    Timer report_;                   // the counts
    Timer pause_end_;
};

}  // namespace fdbroker::opener
