// SPDX-License-Identifier: MIT
// Processes as /proc tells of them (proc(5)). Where it is not mounted nothing is told.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace fdbroker::opener {

// At most 8 KiB of /proc/PID/NAME; empty: the process has ended, or there is no such file.
std::string proc_file(pid_t pid, const char* name);

// Empty as well where the kernel has no CONFIG_PROC_CHILDREN.
std::vector<pid_t> children_of(pid_t pid);

}  // namespace fdbroker::opener
