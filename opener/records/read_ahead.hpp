// SPDX-License-Identifier: MIT
// Reads another source in a thread, so that decompressing and whatever is done with the bytes share two processors.
#pragma once

#include <memory>

#include "opener/records/byte_source.hpp"

namespace fdbroker::records {

// Keeps a few megabytes ready. The thread ends with the result.
std::unique_ptr<ByteSource> read_ahead(std::unique_ptr<ByteSource> source);

}  // namespace fdbroker::records
