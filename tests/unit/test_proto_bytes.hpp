// SPDX-License-Identifier: MIT
// Messages that can be kept and compared.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace fdbroker::proto {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(std::span<const std::byte> message) {
    return {message.begin(), message.end()};
}

}  // namespace fdbroker::proto
