// SPDX-License-Identifier: MIT
// The seccomp filter of a confined worker: a list of what it may call, everything else is refused.
#pragma once

#include "proto/error.hpp"
#include "worker/sandbox/fstat_handler.hpp"

namespace fdbroker::worker {

// Whether this kernel has seccomp filters. ENOSYS: it has not; EPERM: a filter forbids to add one.
proto::Result<void> filter_available();

// Who keeps this process from signalling others.
enum class Signals {
    filter,  // the filter does: only its own pid may be signalled, so a forked child cannot even signal itself
    landlock,  // Landlock's signal scope does
};

// For the calling thread and what it starts. Needs no_new_privs. Fstat::served needs install_fstat_handler() before.
//
// What is not on the list fails with EPERM: a program that probes for something goes on as if it were not permitted,
// which it is not. clone3 fails with ENOSYS, so that the C library turns to clone, whose flags a filter can read. A call
// of a foreign architecture ends the process: no program makes one by accident.
proto::Result<void> enter_filter(Signals signals, Fstat fstat = Fstat::refused);

}  // namespace fdbroker::worker
