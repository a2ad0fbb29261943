// SPDX-License-Identifier: MIT
// What a process inherits and shall not hold.
#pragma once

#include <span>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Closes every descriptor of the process that is not in `keep`; empty ones there are passed over.
proto::Result<void> close_all_but(std::span<const proto::BorrowedFd> keep);

}  // namespace fdbroker::opener
