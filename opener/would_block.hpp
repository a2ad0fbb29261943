#pragma once

#include <cerrno>

#include "proto/error.hpp"

namespace fdbroker::opener {

// A call that does not wait had nothing to do.
inline bool would_block(const proto::Error& error) noexcept {
    return error.kind == proto::ErrorKind::system && error.errno_value == EAGAIN;
}

}  // namespace fdbroker::opener
