// SPDX-License-Identifier: MIT
// Process 1 of a program's namespaces: makes its view, starts it, answers its calls, and ends with it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

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
    bool passes_notify_on;       // there is a service manager that waits for sd_notify(3)
};

// Messages of the answerer to the launcher besides questions about owners: the first byte.
inline constexpr char program_stopped = 'S';
inline constexpr char program_notifies = 'N';  // the rest is for the service manager
inline constexpr std::size_t max_notification = 4096;

// NOTIFY_SOCKET of the program.
inline constexpr std::string_view notify_path = "/run/systemd/notify";

// In a fresh child in new namespaces. Exits with the program's status.
[[noreturn]] void run_answerer(const Launch& launch);

}  // namespace fdbroker::worker
