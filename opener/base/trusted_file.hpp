// SPDX-License-Identifier: MIT
// Opening a file that nobody but root (or the user who runs this) could have changed or replaced.
#pragma once

#include <sys/stat.h>

#include <expected>
#include <string>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Where a name leads to. Every step on the way was held to the rule: the root directory, each directory, each
// symbolic link and the object itself belong to root (or to the effective user), and neither group nor others
// may write them; a directory with the sticky bit may be writable, since only an entry's owner replaces that.
struct TrustedObject {
    proto::UniqueFd directory{};  // O_PATH
    std::string name{};           // in `directory`; "." for the root directory
    proto::UniqueFd fd{};         // O_PATH, never a symbolic link
    struct stat status{};
    std::string path{};  // without links, as messages name it
};

// Walks `path` (a relative one from the working directory) component by component, following links itself, at
// most 40. The error is a sentence: what is wrong with which step, and what to do. Opens nothing for reading.
std::expected<TrustedObject, std::string> walk_trusted(const std::string& path);

// Opens what was walked to; it is still the same object. Never blocks on a FIFO, and makes no terminal ours.
// `flags`: O_DIRECTORY or 0.
std::expected<proto::UniqueFd, std::string> open_for_reading(const TrustedObject& object, int flags);

}  // namespace fdbroker::opener
