// SPDX-License-Identifier: MIT
// Landlock on the broker: stands in where a private root is not to be had. The weaker of the two: it restricts
// neither stat, O_PATH, nor changes of owner, mode, times and attributes.
#pragma once

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// The version of this kernel's Landlock. system: ENOSYS (not built in), EOPNOTSUPP (turned off at boot).
proto::Result<int> landlock_version();

// Leaves the calling thread, for good, the rights on the plan's named directories that their rules need and
// none elsewhere; no TCP, and no signals nor abstract sockets outside where the version has them. Directories
// that are not there are left out. `root` stands for /. Needs no_new_privs.
proto::Result<void> restrict_by_landlock(const ConfinementPlan& plan, proto::BorrowedFd root, int version);

}  // namespace fdbroker::opener
