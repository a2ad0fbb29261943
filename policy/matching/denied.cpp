// SPDX-License-Identifier: MIT
#include "policy/matching/denied.hpp"

#include <algorithm>
#include <functional>
#include <string>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

bool has_deny_rules(const Policy& policy) noexcept {
    return !policy.compiled().denied_heads.empty();
}

// A deny rule covers everything below what it matches, and that begins with its head.
bool denied_below(const Policy& policy, std::string_view directory) {
    const auto& heads = policy.compiled().denied_heads;
    for (std::string_view above = directory;;
         above = above.substr(0, std::max<std::size_t>(above.rfind('/'), 1))) {
        if (std::ranges::binary_search(heads, above, std::less<>())) return true;
        if (above == "/") break;
    }
    const std::string inside = directory == "/" ? "/" : std::string(directory) + '/';
    const auto next = std::ranges::lower_bound(heads, inside);
    return next != heads.end() && next->starts_with(inside);
}

}  // namespace fdbroker::policy
