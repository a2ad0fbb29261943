// SPDX-License-Identifier: MIT
// watch: the peer gets the reading end of a pipe, in which a helper puts a byte when what the peer may see at a path has
// changed: the bits of proto/watch.hpp.
//
// The helper looks as stat does, by the same rules, each time the kernel tells of an event. The difference between two looks
// is what the peer is told, so that a watch tells no more than asking again and again. Looks are few: at most one each
// look_interval, and none while the peer has not read what it was told.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// The name may be missing, its directory may not (ENOENT).
Attempt<Outcome> begin_watch(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
