// SPDX-License-Identifier: MIT
// The system calls of a program under `worker run`: those that take a path wait for an answer, those that concern what is
// open already are the kernel's, and the rest do not exist.
#pragma once

#include <cstdint>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"
#include "worker/sandbox/landlock.hpp"

namespace fdbroker::worker {

// Sockets of a program without a network. Landlock holds it back from abstract names of others from Linux 6.12 on.
enum class LocalSockets : std::uint8_t { none, allowed };

// Enters the filter, for this thread and what it starts; sets no_new_privs. Returns the descriptor on which the calls are
// told that wait. Network::none: sockets are AF_UNIX alone, or none.
proto::Result<proto::UniqueFd> enter_program_filter(Network network, LocalSockets local);

}  // namespace fdbroker::worker
