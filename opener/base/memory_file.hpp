// SPDX-License-Identifier: MIT
// Files in memory (memfd_create(2)) by which one process hands another text of any length.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// An empty one, to be filled by write(2), of which forked processes share the place. `name` is for /proc alone.
proto::Result<proto::UniqueFd> make_memory_file(const char* name);

// From now on nobody changes it, whoever holds a descriptor. EBUSY: it is mapped for writing.
proto::Result<void> seal(proto::BorrowedFd file);

proto::Result<void> write_all(proto::BorrowedFd file, std::span<const std::byte> bytes);
// The whole of a sealed one. EINVAL: it is not sealed, so that it may be another when it is used.
proto::Result<std::string> read_sealed(proto::BorrowedFd file);

}  // namespace fdbroker::opener
