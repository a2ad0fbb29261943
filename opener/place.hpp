// Where a request is carried out.
#pragma once

#include <chrono>

namespace fdbroker::opener {

class Place {
  public:
    using Deadline = std::chrono::steady_clock::time_point;

    // The broker's loop, which serves everyone: what could wait for a disk, a network, a lease or a FUSE server is
    // not even tried.
    static constexpr Place loop() noexcept { return Place(Deadline{}, false); }
    // A process that has nothing else to do, and may be left behind. What waits in it of its own accord gives up at
    // `deadline`; where the kernel makes it wait, nothing can.
    static constexpr Place helper(Deadline deadline) noexcept { return Place(deadline, true); }

    constexpr bool may_block() const noexcept { return may_block_; }
    constexpr Deadline deadline() const noexcept { return deadline_; }

  private:
    constexpr Place(Deadline deadline, bool may_block) noexcept
        : deadline_(deadline), may_block_(may_block) {}
    Deadline deadline_;
    bool may_block_;
};

}  // namespace fdbroker::opener
