// SPDX-License-Identifier: MIT
// What a request leaves going on after its reply has left: a stream, a file that is being put, a watch. It is in the memory of
// the helper that carried the request out, which stays with it and does nothing else any more.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <optional>

namespace fdbroker::policy {
class Peer;
}

namespace fdbroker::opener {

struct GrantedRequest;
struct Outcome;
struct RequestServices;
class ExecutionContext;

class BackgroundWork {
  public:
    virtual ~BackgroundWork() = default;

    // The events it waits for, which must not be readiness that never ends; -1: none.
    using Awaited = std::array<pollfd, 2>;
    static constexpr pollfd nothing{.fd = -1, .events = 0, .revents = 0};
    virtual Awaited awaited() const noexcept = 0;
    // Some event has come: does what there is to do, and may block for the file, never for the peer.
    virtual void go_on() = 0;
    // Nothing is left to do, or can be done: the helper ends.
    virtual bool done() const noexcept = 0;
    // Why it could not be done as it should have been, in the end; 0: it was, or the peer did not want more.
    virtual int errno_value() const noexcept = 0;
    // When something last went through it; nullopt: it may rest for as long as its session lives.
    virtual std::optional<std::chrono::steady_clock::time_point> moved_at() const noexcept {
        return std::nullopt;
    }
    // The session or the broker has ended, and with it this: what the peer has finished until now is still done.
    virtual void end() = 0;
    // A further request of the same session that is about this.
    virtual Outcome carry_out(const RequestServices& services, const policy::Peer& peer,
                              const GrantedRequest& granted, const ExecutionContext& execution) = 0;

    BackgroundWork(const BackgroundWork&) = delete;
    BackgroundWork& operator=(const BackgroundWork&) = delete;

  protected:
    BackgroundWork() = default;
};

}  // namespace fdbroker::opener
