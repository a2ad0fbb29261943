// SPDX-License-Identifier: MIT
// Which cores the calling thread, and what it starts, may run on.
#pragma once

#include <sys/types.h>

namespace fdbroker::bench {

// All throw std::system_error. `pid`: another process; 0: the caller.
void pin_to(unsigned cpu, pid_t pid = 0);
void unpin(pid_t pid = 0);

}  // namespace fdbroker::bench
