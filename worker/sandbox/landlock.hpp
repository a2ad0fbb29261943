// SPDX-License-Identifier: MIT
// Landlock (landlock(7)) by its system calls: the C library has no wrappers.
#pragma once

#include "proto/error.hpp"

namespace fdbroker::worker {

// The ABI version of this kernel, 1 and above. ENOSYS: built without; EOPNOTSUPP: not enabled at boot; EPERM: a
// seccomp filter forbids it.
proto::Result<int> landlock_abi();

// Takes every right that `abi` knows from the calling thread and what it starts. Needs no_new_privs.
proto::Result<void> restrict_to_nothing(int abi);

}  // namespace fdbroker::worker
