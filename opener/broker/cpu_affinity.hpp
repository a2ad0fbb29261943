// SPDX-License-Identifier: MIT
// Which CPU the broker runs on. A peer that asks for one thing at a time and waits for it is answered soonest where it
// runs itself: waking a thread on another CPU, which may sleep, takes longer than all the work of a request.
//
// The CPU is the peer's word (the header's `cpu`, PROTOCOL.md), so it counts only while nobody but that peer's user is
// connected: it can slow nobody but itself.
#pragma once

#include <sched.h>

#include <cstdint>

#include "opener/link/link.hpp"

namespace fdbroker::opener {

class CpuAffinity {
  public:
    // So many messages in a row, of one request each, from one session and one CPU, before the broker moves there.
    static constexpr unsigned settled_after = 16;

    // Of the calling thread; where it may run now is where it may be placed.
    CpuAffinity() noexcept;

    // A message of the session has come. `waits`: its peer has asked for one thing and for nothing before that is not
    // answered. `alone`: no other user is connected.
    void asked(ConnectionId session, std::uint16_t cpu, bool waits, bool alone) noexcept {
        if (waits && alone && session == session_ && cpu == cpu_) {
            if (in_a_row_ == settled_after) return;
            ++in_a_row_;
            if (in_a_row_ == settled_after) move_to(cpu);
            return;
        }
        session_ = session;
        cpu_ = cpu;
        in_a_row_ = 0;
        if (placed_) go_anywhere();
    }

  private:
    void move_to(std::uint16_t cpu) noexcept;
    void go_anywhere() noexcept;

    cpu_set_t anywhere_{};  // none where the system does not tell
    ConnectionId session_ = 0;
    std::uint16_t cpu_ = 0;
    unsigned in_a_row_ = 0;
    bool placed_ = false;
};

}  // namespace fdbroker::opener
