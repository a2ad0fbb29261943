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
    // A process that has nothing else to do, and may be left behind. What waits in it of its own accord gives up at
    // `deadline`; where the kernel makes it wait, nothing can. `may_last`: something may go on in it after the reply.
    static constexpr ExecutionContext helper(Deadline deadline, bool may_last) noexcept {
        return ExecutionContext(deadline, true, may_last);
    }

    constexpr bool may_block() const noexcept { return may_block_; }
    constexpr bool may_last() const noexcept { return may_last_; }
    constexpr Deadline deadline() const noexcept { return deadline_; }

  private:
    constexpr ExecutionContext(Deadline deadline, bool may_block, bool may_last) noexcept
        : deadline_(deadline), may_block_(may_block), may_last_(may_last) {}
    Deadline deadline_;
    bool may_block_;
    bool may_last_;
};

}  // namespace fdbroker::opener
