// SPDX-License-Identifier: MIT
// The private root: a mount namespace in which nothing but the planned directories is there.
#pragma once

#include <vector>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// Puts the calling process, which must have one thread, into a private root. A process that is not root goes through a
// user namespace that maps its uid and gid. On an error the process may be anywhere on the way and must end.
// Every descriptor that the caller opened before still leads outside. The result is as Confined::directories.
proto::Result<std::vector<BoundDirectory>> enter_private_root(const ConfinementPlan& plan);

}  // namespace fdbroker::opener
