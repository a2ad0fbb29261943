// SPDX-License-Identifier: MIT
// Which cores the calling thread, and what it starts, may run on.
#pragma once

namespace fdbroker::bench {

// Both throw std::system_error.
void pin_to(unsigned cpu);
void unpin();

}  // namespace fdbroker::bench
