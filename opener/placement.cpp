#include "opener/placement.hpp"

namespace fdbroker::opener {

Placement::Placement() noexcept {
    if (::sched_getaffinity(0, sizeof anywhere_, &anywhere_) != 0) CPU_ZERO(&anywhere_);
}

// It is a matter of speed alone: what fails is left as it is.
void Placement::move_to(std::uint16_t cpu) noexcept {
    if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &anywhere_)) return;
    cpu_set_t there;
    CPU_ZERO(&there);
    CPU_SET(cpu, &there);
    placed_ = ::sched_setaffinity(0, sizeof there, &there) == 0;
}

void Placement::go_anywhere() noexcept {
    placed_ = ::sched_setaffinity(0, sizeof anywhere_, &anywhere_) != 0;
}

}  // namespace fdbroker::opener
