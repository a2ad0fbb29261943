// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>

namespace fdbroker::opener {

// The directory above `path`, which is absolute and canonical; / is its own.
constexpr std::string_view parent_of(std::string_view path) noexcept {
    const std::size_t slash = path.rfind('/');
    return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

}  // namespace fdbroker::opener
