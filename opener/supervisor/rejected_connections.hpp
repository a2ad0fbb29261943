// SPDX-License-Identifier: MIT
// Whom the supervisor turns away because of `limits: connections`. It goes on record through the generation: the first one
// of a user at once, the others once a second and together, so that whoever connects without end fills no log.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace fdbroker::opener {

struct RejectedConnection {
    std::uint32_t listener = 0;
    uid_t uid = 0;
    gid_t gid = 0;  // of the last one
    pid_t pid = 0;  // of the last one
    std::uint32_t count = 1;
};

class RejectedConnections {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds interval{1};

    // False: it is counted, and take() tells of it later.
    bool is_first(const RejectedConnection& one, Clock::time_point now);
    // Those whose second is over.
    std::vector<RejectedConnection> take(Clock::time_point now);
    // When there is something to take, or somebody to forget.
    std::optional<Clock::time_point> due() const noexcept { return due_; }

  private:
    struct Entry {
        RejectedConnection counted{};
        Clock::time_point since{};
    };
    // As many as users who have all their connections, at most.
    std::map<std::pair<uid_t, std::uint32_t>, Entry> entries_{};
    std::optional<Clock::time_point> due_{};
};

}  // namespace fdbroker::opener
