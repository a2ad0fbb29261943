// SPDX-License-Identifier: MIT
// `worker stat`, `list` and `put`: what a broker tells of files, and files that it replaces.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "worker/client/c_api.hpp"
#include "worker/ending.hpp"

namespace fdbroker::worker {

// Each command complains about a path that is refused or fails, and goes on. Each ends at the loss of the connection
// or of standard output. SIGPIPE is to be ignored.

enum class Links { follow, tell };
// A line for each path: type and mode, links, owner, group, size, time of modification (UTC), path. Links::tell: of a
// symbolic link itself.
ExitStatus stat(fdbroker_handle* broker, std::span<const std::string> paths, Links links);

enum class LineEnd : char { newline = '\n', nul = '\0' };
// The names in each directory, sorted.
ExitStatus list(fdbroker_handle* broker, std::span<const std::string> paths, LineEnd line_end);

enum class Existing { replace, keep };
// Standard input becomes the file, whole or not at all.
ExitStatus put(fdbroker_handle* broker, const std::string& path, mode_t mode, Existing existing);

}  // namespace fdbroker::worker
