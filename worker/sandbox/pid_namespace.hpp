// SPDX-License-Identifier: MIT
// A namespace of processes for a program that has one thread.
#pragma once

#include "proto/error.hpp"

namespace fdbroker::worker {

// Goes on in a child that is the first process of a fresh pid namespace, and sees no other one. This process waits for
// the child and ends as it does, by the same status or signal; when this process is killed, the child is.
//
// Returns in the child, or, with the reason and nothing changed, in this process: where it may not have such a namespace
// (see namespaces_available()). The first process of a namespace ignores signals without a handler: a
// terminal's ^C ends this process, and the child with it. No handler of pthread_atfork(3) runs: connections of the library go
// on in the child.
proto::Result<void> go_on_in_pid_namespace();

}  // namespace fdbroker::worker
