// SPDX-License-Identifier: MIT
#include "tests/bench/broker/pinning.hpp"

#include <sched.h>

#include <cerrno>
#include <system_error>

namespace fdbroker::bench {

namespace {

void set_affinity(pid_t pid, const cpu_set_t& set) {
    if (::sched_setaffinity(pid, sizeof set, &set) < 0) {
        throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
    }
}

}  // namespace

void pin_to(unsigned cpu, pid_t pid) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    set_affinity(pid, set);
}

void unpin(pid_t pid) {
    cpu_set_t set;
    CPU_ZERO(&set);
    // The kernel leaves out what there is not.
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &set);
    set_affinity(pid, set);
}

}  // namespace fdbroker::bench
