// The allowlist of system calls.
#pragma once

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// Installs the filter for the calling process, which must have one thread and no_new_privs. What is not listed
// fails with EPERM; a call of another architecture, x32 among them, kills the process.
// system: EINVAL, ENOSYS (a kernel without seccomp filters), EPERM, EACCES (they are forbidden here).
proto::Result<void> install_seccomp_filter(const ModifyingCalls& calls);

}  // namespace fdbroker::opener
