// SPDX-License-Identifier: MIT
// `create: {group: directory}`
#pragma once

#include <cstdint>

namespace fdbroker::policy {

// As Creation::group: the group of the directory in which something is made. The loader takes no group of this number;
// the one after it is no_account (accounts.hpp).
inline constexpr std::uint32_t group_of_directory = UINT32_MAX - 1;

}  // namespace fdbroker::policy
