// SPDX-License-Identifier: MIT
// A forked child that tries something and tells by its exit status how that went.
#pragma once

#include <functional>

#include "proto/error.hpp"

namespace fdbroker::worker {

// How such a child ended. At most one of the two is set.
struct Ending {
    int error = 0;   // the errno that the attempt failed with
    int signal = 0;  // the signal that ended the child
    bool worked() const { return error == 0 && signal == 0; }
};

// The outcome of a system call that returned `result`: 0 or the errno.
int errno_of(long result);

// Runs `body`, which returns 0 or an errno, in a child with one thread, and waits for its end. Signals end the child
// whatever handlers this process has, and it leaves no core dump. An exception of `body` counts as EINVAL.
// Blocks; an error: the child could not be started or waited for.
proto::Result<Ending> try_in_child(const std::function<int()>& body);

}  // namespace fdbroker::worker
