// SPDX-License-Identifier: MIT
// Where connections come in: the listening sockets, and who may have one more connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
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

class Acceptor {
  public:
    using Clock = std::chrono::steady_clock;

    // What it counts goes into `facts`.
    Acceptor(std::vector<Listener> listeners, ConnectionTable& connections, EventLoop& loop,
             SupervisorFacts& facts)
        : listeners_(std::move(listeners)), connections_(connections), loop_(loop), facts_(facts) {}

    // Has the loop tell of connections that come.
    proto::Result<void> watch();
    // Whether an event with this tag is about one of the listeners.
    bool owns(const void* tag) const noexcept;
    const std::vector<Listener>& listeners() const noexcept { return listeners_; }

    // Takes in what waits at the listener that `tag` is about, a turn's share of it; the result is what `generation` shall
    // have. A user who has as many connections as that allows is told so.
    std::vector<ConnectionId> accept(const void* tag, Generation& generation);
    bool is_control(const void* tag) const noexcept;
    // Takes in what waits at the listener for control that `tag` is about, a turn's share of it, says `text` and hangs up.
    void answer_controls(const void* tag, std::string_view text);
    // What comes waits in the backlog until resume().
    void pause();
    void resume() noexcept { again_at_ = Clock::now(); }
    // A connection has gone: if that is what was waited for, now is the time.
    void has_room() noexcept {
        if (again_at_) resume();
    }
    std::optional<Clock::time_point> again_at() const noexcept;
    // `generation`: whom to tell what is to go on record; null: nobody can be told now.
    void act_on_time(Clock::time_point now, Generation* generation);

    void close();
    // The loop tells of no connections any more; they wait for whoever gets the listeners. watch() takes that back.
    void leave();
    // Of the listeners that are paths: see Listener::leave_path().
    void leave_paths() noexcept;

  private:
    bool admit(const proto::UniqueFd& socket, Generation& generation, Connection& connection);
    void turn_away(const proto::UniqueFd& socket, Generation& generation, const RejectedConnection& whom);
    bool admit_control(const proto::UniqueFd& socket, std::uint32_t uid) const;
    void wait_for_room(Generation& generation, int cause);
    void report_later();
    void set_paused(bool paused);

    std::vector<Listener> listeners_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    SupervisorFacts& facts_;
    Repeats<RepeatedRejection> rejections_{{.whole = 1, .kinds = 64}};
    Repeats<RepeatedWait> waits_{{.whole = 1, .kinds = 8}};
    std::optional<Clock::time_point> report_at_{};  // what those count
    bool has_room_ = true;                          // for another connection, as far as is known
    bool paused_ = false;
    std::optional<Clock::time_point> again_at_{};
};

}  // namespace fdbroker::opener
