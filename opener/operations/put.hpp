// SPDX-License-Identifier: MIT
// put, commit, discard: a file that replaces another whole, or not at all.
//
// The peer gets a descriptor of a file without a name, which it fills; the helper that made the file stays with it. Until
// it is committed the file is the opener's own, so that nobody else can open it, and its owner and mode nobody can change.
//
// A commit must know that nobody can write to the file any more. Only a lease on a read-only descriptor tells that, and an
// unnamed file has no lease before it has had a name. So the helper gives the file a temporary name beside the final one,
// opens it again by that, and closes its own writing descriptor.
// When somebody else still can write, the name is taken away. A file that has lost its name gets no other one:
// open(2), O_TMPFILE. So a later commit copies the content into a file that nobody was ever given.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// EOPNOTSUPP where the filesystem has no unnamed files.
Attempt<Outcome> begin_put(const OperationContext& context, const policy::Grant& grant);

// commit and discard where no put of this session has the number: ESTALE.
Attempt<Outcome> no_such_put(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
