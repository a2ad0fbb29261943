// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Runs `task` in a forked child, which holds copies of all descriptors, and returns what it returned: for
// finding out what cannot be undone. Blocks until the child has ended.
// system: ECHILD when the child ended without an answer.
proto::Result<std::string> ask_child(const std::function<std::string(proto::BorrowedFd answer)>& task);

}  // namespace fdbroker::opener
