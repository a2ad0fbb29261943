// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

namespace fdbroker::opener {

// The bit of a CAP_* number in a set of them.
constexpr std::uint64_t capability_bit(int capability) noexcept {
    return std::uint64_t{1} << capability;
}

// "dac_read_search, chown" for a bit per CAP_* number; empty: none.
std::string capability_names(std::uint64_t capabilities);

}  // namespace fdbroker::opener
