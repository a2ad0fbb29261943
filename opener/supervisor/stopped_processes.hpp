// SPDX-License-Identifier: MIT
// Ends processes of the opener that somebody has stopped (SIGSTOP, by root or by a process of their uid): whoever waits
// for a process hears of its end, and of nothing while it stands still. What ends is replaced.
//
// A process that a debugger holds is in another state, and left alone.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <span>
#include <vector>

namespace fdbroker::opener {

class StoppedProcesses {
  public:
    // Processes that are looked at each time, the nearest descendants first.
    static constexpr std::size_t max_looked_at = 256;

    // Between two looks.
    static constexpr std::chrono::seconds interval{1};
    static constexpr unsigned max_looks = 7;

    // `looks` in a row must find a process stopped before it is killed. Looks are counted, since time also passes while
    // the supervisor itself is stopped.
    explicit StoppedProcesses(unsigned looks = max_looks) noexcept : looks_(looks) {}

    // Looks at what descends from this process, and kills. The children in `others` are left out with all that descends
    // from them. Returns the processes that were killed.
    std::vector<pid_t> end_stopped(std::span<const pid_t> others);

  private:
    unsigned looks_;
    std::map<pid_t, unsigned> stopped_{};  // how often in a row each was found stopped
};

}  // namespace fdbroker::opener
