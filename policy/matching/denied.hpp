// SPDX-License-Identifier: MIT
// Where deny rules may reach, whoever the peer is and whatever is asked for.
#pragma once

#include <string_view>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

bool has_deny_rules(const Policy& policy) noexcept;

// Whether a deny rule may cover the directory (absolute, canonical), or something below it: a pattern that begins with
// other names does not. Takes time that grows with the path.
bool denied_below(const Policy& policy, std::string_view directory);

}  // namespace fdbroker::policy
