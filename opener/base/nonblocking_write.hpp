// SPDX-License-Identifier: MIT
// Writing to a stream that others gave and may share, such as standard error, without ever waiting for whoever reads it.
//
// O_NONBLOCK belongs to the open file, which all who hold the stream share: a shell whose terminal became non-blocking
// would fail. So a pipe or a terminal is opened once more, for us alone; a socket is asked at each write.
#pragma once

#include <sys/types.h>

#include <string_view>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// For write_without_waiting(). `fd` stays the caller's.
proto::Result<proto::UniqueFd> open_without_waiting(proto::BorrowedFd fd);

// As write(2). EAGAIN: whoever reads has not read enough.
ssize_t write_without_waiting(proto::BorrowedFd stream, std::string_view text) noexcept;

}  // namespace fdbroker::opener
