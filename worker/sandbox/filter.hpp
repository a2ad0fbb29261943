// SPDX-License-Identifier: MIT
// The seccomp filter of a confined worker: a list of what it may call, everything else is refused.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "proto/error.hpp"
#include "worker/sandbox/fstat_handler.hpp"

namespace fdbroker::worker {

// Whether this kernel has seccomp filters. ENOSYS: it has not; EPERM: a filter forbids to add one.
proto::Result<void> filter_available();

// The layer that keeps this process from signalling others.
enum class Signals {
    filter,  // the filter does: only its own pid may be signalled, so a forked child cannot even signal itself
    landlock,  // Landlock's signal scope does
};

// Further calls that a program may have, as bits. None of them makes or reaches something new.
enum Allowance : unsigned {
    allow_tcp_options = 1,     // for sockets that exist: TCP's, address reuse, service class
    allow_socketpair = 2,      // Unix, stream or seqpacket: a datagram one could be sent to any path
    allow_listen = 4,          // on a socket that was bound before
    allow_own_attributes = 8,  // fchmod without set-id bits, futimens, fgetxattr, flistxattr
    allow_scheduling = 16,     // priority, policy and affinity of the calling thread
    allow_udp = 32,            // sendto with an address
};
inline constexpr unsigned all_allowances = 63;

// How a call that is refused shows, besides its EPERM.
enum class Denied {
    silent,
    told,   // on standard error, by the handler of SIGSYS: its name and the backtrace
    noted,  // in the kernel's log, where it logs such (seccomp(2), SECCOMP_FILTER_FLAG_LOG)
};

// For the calling thread and what it starts. Needs no_new_privs. Fstat::served needs install_fstat_handler() before.
//
// Calls that are not on the list fail with EPERM: a program that probes for something goes on as if it were not permitted,
// which it is not. clone3 fails with ENOSYS, so that the C library turns to clone, whose flags a filter can read. A call
// of a foreign architecture ends the process: no program makes one by accident.
// Denied::told needs the handler, too.
proto::Result<void> enter_filter(Signals signals, Fstat fstat = Fstat::refused, unsigned allowances = 0,
                                 Denied denied = Denied::silent);

// The program of that filter, for whoever asks what it would do with a call.
std::vector<sock_filter> filter_program(unsigned allowances);

}  // namespace fdbroker::worker
