// SPDX-License-Identifier: MIT
#include "opener/broker/cpu_affinity.hpp"

namespace fdbroker::opener {

CpuAffinity::CpuAffinity() noexcept {
    if (::sched_getaffinity(0, sizeof anywhere_, &anywhere_) != 0) CPU_ZERO(&anywhere_);
}

// It is a matter of speed alone: what fails is left as it is.
void CpuAffinity::move_to(std::uint16_t cpu) noexcept {
    if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &anywhere_)) return;
    cpu_set_t there;
    CPU_ZERO(&there);
    CPU_SET(cpu, &there);
    placed_ = ::sched_setaffinity(0, sizeof there, &there) == 0;
}

void CpuAffinity::go_anywhere() noexcept {
    placed_ = ::sched_setaffinity(0, sizeof anywhere_, &anywhere_) != 0;
}

}  // namespace fdbroker::opener
