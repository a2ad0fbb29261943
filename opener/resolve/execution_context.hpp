// SPDX-License-Identifier: MIT
// Where a request is carried out.
#pragma once

#include <chrono>

namespace fdbroker::opener {

class ExecutionContext {
  public:
    using Deadline = std::chrono::steady_clock::time_point;

    // The broker's loop, which serves everyone: what could wait for a disk, a network, a lease or a FUSE server is
    // not even tried.
    static constexpr ExecutionContext loop() noexcept { return ExecutionContext(Deadline{}, false, false); }
    // A process that has nothing else to do, and may be left behind. Its own waits give up at `deadline`; waits in the
    // kernel cannot. `allows_background`: work may go on in it after the reply.
    static constexpr ExecutionContext helper(Deadline deadline, bool allows_background) noexcept {
        return ExecutionContext(deadline, true, allows_background);
    }

    constexpr bool may_block() const noexcept { return may_block_; }
    constexpr bool allows_background() const noexcept { return allows_background_; }
    constexpr Deadline deadline() const noexcept { return deadline_; }

  private:
    constexpr ExecutionContext(Deadline deadline, bool may_block, bool allows_background) noexcept
        : deadline_(deadline), may_block_(may_block), allows_background_(allows_background) {}
    Deadline deadline_;
    bool may_block_;
    bool allows_background_;
};

}  // namespace fdbroker::opener
