// SPDX-License-Identifier: MIT
// Bits of a watch: the changes that a client asks for, and those that each byte of the watch tells. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "proto/payload.hpp"

namespace fdbroker::proto {

inline constexpr std::uint8_t watch_content = 1;  // size or modification time; names in a directory
inline constexpr std::uint8_t watch_attributes =
    2;  // mode, owner, group, links, what else only the change time tells
inline constexpr std::uint8_t watch_replaced = 4;  // another object has the name, or none
inline constexpr std::uint8_t watch_all = watch_content | watch_attributes | watch_replaced;

// The status of the object that has the name; nullopt: none has, or none that the client may see.
using Looked = std::optional<Status>;

// The difference between two looks. Another object is another content with other attributes.
std::uint8_t changes_between(const Looked& before, const Looked& now) noexcept;

}  // namespace fdbroker::proto
