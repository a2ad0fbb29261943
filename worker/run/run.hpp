// SPDX-License-Identifier: MIT
// `worker run`: an unmodified program whose files are the broker's.
//
//     launcher   in the namespaces of whoever started it; passes signals on and tells true owners of files (identities.hpp)
//       └─ answerer   process 1 of new user, mount, pid and IPC namespaces: answers the program's system calls
//            └─ program   its root directory is view.hpp's, its system calls are program_filter.cpp's
//
// Each ends with the one above it.
#pragma once

#include <string>
#include <vector>

#include "worker/client/connection.hpp"
#include "worker/ending.hpp"
#include "worker/run/view.hpp"

namespace fdbroker::worker {

struct RunOptions {
    std::vector<std::string> command{};  // at least one; without a slash it is looked for in PATH
    std::vector<std::string> runtime{};
    Scratch scratch = Scratch::none;
    Network network = Network::none;
    std::vector<std::string> environment{};  // NAME=VALUE, all that the program gets
    bool trace = false;                      // each answer of the broker, on standard error
    bool explain = false;                    // at the end: what was refused, and rules that would allow it
    std::string learn{};  // a file to which refusals are appended as audit records; empty: none
};

// The paths of the runtime that a program has unless it is told otherwise.
std::vector<std::string> default_runtime();
// The part of this process's environment that a program gets, and `wanted` (NAME, NAME=VALUE) on top.
std::vector<std::string> program_environment(const std::vector<std::string>& wanted, Scratch scratch);

// Runs the program and returns its exit status, 128 + n when signal n ended it. A program that cannot be started is 127 or
// 126, as with sh(1). 1, complained of: this kernel or its administrator does not permit the confinement.
// `connection` has greeted the broker. For a process with one thread.
int run_program(RunOptions options, Connection& connection);

}  // namespace fdbroker::worker
