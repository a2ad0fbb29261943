// A status of the wire as the C library's struct statx, and back.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>

namespace fdbroker::worker {

// False: the bytes are no status. What the wire does not carry (the mount) is 0.
bool read_statx(std::string_view payload, struct statx& status);
std::string write_statx(const struct statx& status);

}  // namespace fdbroker::worker
