// SPDX-License-Identifier: MIT
// put, commit, discard: a file that replaces another whole, or not at all.
//
// The peer gets a descriptor of a file without a name, which it fills; the helper that made the file stays with it. Until
// it is committed the file is the opener's own, so that nobody else can open it, and its owner and mode nobody can change.
//
// A commit must know that nobody can write to the file any more, which only a lease on a descriptor that cannot write
// tells, and of an unnamed file there is none before it has had a name. So the helper gives it one beside the one that it
// is to get, opens it again by that, and closes what it can write with itself. When somebody else still can, the name is
// taken away: what has had a name and lost it gets no other one (open(2), O_TMPFILE), so that a later commit copies what is
// in the file into another that nobody was ever given.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// EOPNOTSUPP where the filesystem has no unnamed files.
Done<Answer> begin_put(const OperationContext& work, const policy::Grant& grant);

// commit and discard where no put of this session has the number: ESTALE.
Done<Answer> no_such_put(const OperationContext& work, const policy::Grant& grant);

}  // namespace fdbroker::opener
