// Where connections come in: the listening sockets, and who may have one more connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "opener/connection_table.hpp"
#include "opener/event_loop.hpp"
#include "opener/generation.hpp"
#include "opener/listener.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class Reception {
  public:
    Reception(std::vector<Listener> listeners, ConnectionTable& connections, EventLoop& loop)
        : listeners_(std::move(listeners)), connections_(connections), loop_(loop) {}

    // Has the loop tell of connections that come.
    proto::Result<void> watch();
    // Whether an event with this tag is about one of the listeners.
    bool owns(const void* tag) const noexcept;
    const std::vector<Listener>& listeners() const noexcept { return listeners_; }

    // Takes in what waits at the listener that `tag` is about, a turn's share of it, and hands it to `generation`. A user
    // who has as many connections as that allows is told so.
    void accept(const void* tag, Generation& generation);
    // What comes waits in the backlog until resume().
    void pause();
    void resume() noexcept { again_at_ = std::chrono::steady_clock::now(); }
    // A connection has gone: if that is what was waited for, now is the time.
    void has_room() noexcept {
        if (again_at_) resume();
    }
    std::optional<std::chrono::steady_clock::time_point> again_at() const noexcept { return again_at_; }
    void act_on_time(std::chrono::steady_clock::time_point now);

    void close();

  private:
    bool admit(const proto::UniqueFd& socket, const Generation::Limits& limits, Connection& connection);
    bool admit_control(const proto::UniqueFd& socket, std::uint32_t uid) const;
    void set_paused(bool paused);

    std::vector<Listener> listeners_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    bool paused_ = false;
    std::optional<std::chrono::steady_clock::time_point> again_at_{};
};

}  // namespace fdbroker::opener
