// SPDX-License-Identifier: MIT
// Numbers in messages: little-endian, at any address. For proto/ only.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace fdbroker::proto {

template <typename T>
T little_endian(T value) noexcept {
    if constexpr (std::endian::native == std::endian::big) return std::byteswap(value);
    return value;
}

template <typename T>
T load(const std::byte* from) noexcept {
    std::make_unsigned_t<T> value;
    std::memcpy(&value, from, sizeof value);
    return static_cast<T>(little_endian(value));
}

template <typename T>
void store(std::byte* to, T value) noexcept {
    const auto raw = little_endian(static_cast<std::make_unsigned_t<T>>(value));
    std::memcpy(to, &raw, sizeof raw);
}

}  // namespace fdbroker::proto
