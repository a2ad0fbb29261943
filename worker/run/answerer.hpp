// SPDX-License-Identifier: MIT
// Process 1 of a program's namespaces: makes its view, starts it, answers its calls, and ends with it.
#pragma once

#include <sys/types.h>

#include "proto/unique_fd.hpp"
#include "worker/run/run.hpp"

namespace fdbroker::worker {

struct Launch {
    const RunOptions& options;
    Connection& connection;
    uid_t uid;  // outside
    gid_t gid;
    std::string directory;       // the working directory outside
    proto::BorrowedFd launcher;  // a socket pair's end: a byte that comes is a signal to pass on
    proto::BorrowedFd learn;     // for RunOptions::learn; -1: none
};

// What the answerer tells the launcher besides questions about owners.
inline constexpr char program_stopped = 'S';

// In a fresh child in new namespaces. Exits with the program's status.
[[noreturn]] void run_answerer(const Launch& launch);

}  // namespace fdbroker::worker
