// SPDX-License-Identifier: MIT
// Whether a directory finds an object by names that the object does not bear: in other case, by an alias of eight and
// three letters, normalized. Rules are decided on the bytes of a name.
#pragma once

#include <cstdint>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

enum class NameMatching : std::uint8_t {
    exact,    // byte by byte
    folding,  // vfat, exfat, ntfs, cifs and their like; a directory with FS_CASEFOLD_FL (chattr +F)
    unknown,  // a server decides (FUSE, network filesystems), or the filesystem is none that is known
};

// Takes an O_PATH descriptor; opens the directory for reading. Blocks as the filesystem does. Behind a helper's filter an
// XFS is unknown.
NameMatching name_matching_of(proto::BorrowedFd directory) noexcept;

// For an administrator: "its filesystem folds names: …"; a literal.
std::string_view describe(NameMatching matching) noexcept;

}  // namespace fdbroker::opener
