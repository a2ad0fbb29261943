// SPDX-License-Identifier: MIT
// A status of the wire as the C library's struct statx.
#pragma once

#include <sys/stat.h>

#include <string_view>

#include "proto/payload.hpp"

namespace fdbroker::worker {

// False: the bytes are no status. What the wire does not carry (the mount) is 0.
bool read_statx(std::string_view payload, struct statx& status);
void to_statx(const proto::Status& told, struct statx& status);

}  // namespace fdbroker::worker
