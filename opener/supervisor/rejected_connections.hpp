// SPDX-License-Identifier: MIT
// Connections that the supervisor rejects, or cannot accept for now, go on record through the generation: the first
// of a kind at once, the others of a second together. A user who connects without end fills no log.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace fdbroker::opener {

struct RejectedConnection {
    std::uint32_t listener = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = 0;
};

// Rejections of one user at one listener (base/repeats.hpp).
class RepeatedRejection {
  public:
    explicit RepeatedRejection(const RejectedConnection& one) noexcept : example_(one) {}
    bool is_like(const RejectedConnection& one) const noexcept {
        return one.uid == example_.uid && one.listener == example_.listener;
    }
    void keep(const RejectedConnection& one) noexcept { example_ = one; }
    const RejectedConnection& example() const noexcept { return example_; }

  private:
    RejectedConnection example_;
};

// Waits of connections in the backlog for one cause: an errno, or 0 when the table is full.
class RepeatedWait {
  public:
    explicit RepeatedWait(int cause) noexcept : cause_(cause) {}
    bool is_like(int cause) const noexcept { return cause == cause_; }
    void keep(int /*cause*/) noexcept {}
    int cause() const noexcept { return cause_; }

  private:
    int cause_;
};

}  // namespace fdbroker::opener
