// SPDX-License-Identifier: MIT
// From one descriptor to another, to the end.
#pragma once

#include <expected>

#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

enum class CopySide { source, target };

struct CopyError {
    CopySide side;
    int errno_value;
};

// Reads `source` to its end and writes all of it to `target`, whatever pieces the kernel takes it in. Blocks, also on
// descriptors that do not. EPIPE of the target: nobody reads it any more; for the caller who ignores SIGPIPE.
std::expected<void, CopyError> copy(proto::BorrowedFd source, proto::BorrowedFd target);

}  // namespace fdbroker::worker
