// SPDX-License-Identifier: MIT
// Landlock on the broker and what it forks. On top of a private root, which does not hold what is sent in: below a
// descriptor of another root everything could be opened. In place of a private root it is the weaker of the two: it
// restricts neither stat, O_PATH, nor changes of owner, mode, times and attributes.
#pragma once

#include <span>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The version of this kernel's Landlock. system: ENOSYS (not built in), EOPNOTSUPP (turned off at boot).
proto::Result<int> landlock_version();

// Whether this process may restrict itself by it. system: EPERM, ENOSYS (a container's filter).
proto::Result<void> may_restrict_by_landlock();

// A ruleset that permits what the private root's directories are bound for and nothing else: no TCP, and where the version
// has them no signals nor abstract sockets outside. `bound`: in the order of `planned`; empty: nothing is permitted.
proto::Result<proto::UniqueFd> make_ruleset(std::span<const PlannedDirectory> planned,
                                            std::span<const BoundDirectory> bound, int version);

// Restricts the calling thread for good. Needs no_new_privs.
proto::Result<void> restrict_by_ruleset(proto::BorrowedFd ruleset);

// Without a private root: leaves the calling thread, for good, the rights on the plan's named directories that their
// rules need and none elsewhere, else as make_ruleset(). Directories that are not there are left out. `root` stands
// for /. Needs no_new_privs.
proto::Result<void> restrict_by_landlock(const ConfinementPlan& plan, proto::BorrowedFd root, int version);

}  // namespace fdbroker::opener
