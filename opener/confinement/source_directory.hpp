// SPDX-License-Identifier: MIT
// A rule's directory as it is found on disk, and what is to be known of a directory descriptor.
#pragma once

#include <string>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct SourceDirectory {
    proto::UniqueFd fd{};  // O_PATH; empty when dormant
    int errno_value = 0;   // why it is dormant
    // With ELOOP: the first link on the way and the text it holds; empty where that cannot be told.
    std::string link{};
    std::string target{};
};

// Opens `path` (absolute) below `root`, which stands for /, without following any link: a symlink on the way leads to a
// directory that the rule does not name. A directory that is missing or cannot be reached is dormant. An error concerns
// all directories (no openat2, no descriptors, no memory).
proto::Result<SourceDirectory> open_source_directory(proto::BorrowedFd root, const std::string& path);

// For an administrator whose rule names `path`: "/var/run is a symbolic link to /run: name /run/x/**; …"
std::string explain_link(const std::string& path, const std::string& link, const std::string& target);

// Moves the findings into the broker's directory.
void take(BoundDirectory& directory, SourceDirectory source);

// Fills device, inode, mount_id and local of `directory` from its fd.
proto::Result<void> inspect_directory(BoundDirectory& directory);

}  // namespace fdbroker::opener
