// SPDX-License-Identifier: MIT
// The one rule for everything that users share: connections, helpers, background work, requests for helpers, descriptors
// on their way, bytes of snapshots.
//
// A user may take at most an eighth of what nobody has, and at least one. Each further user finds less, and however many
// they are, something is left for a long time. When a table is full all the same, the user who has most gives way to a
// user who has nothing.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fdbroker::opener {

inline constexpr std::uint64_t share_of_free = 8;

// Whether a user who has `own` of the `taken` may take one more; there are `max` in all.
constexpr bool may_take(std::uint64_t own, std::uint64_t taken, std::uint64_t max) noexcept {
    const std::uint64_t left = max - std::min(max, taken);
    return own == 0 ? left > 0 : own < left / share_of_free;
}

// The `max` of which a user who is alone may take `share`.
constexpr std::uint64_t total_for(std::uint64_t share) noexcept {
    return share * (share_of_free + 1);
}

}  // namespace fdbroker::opener
