// SPDX-License-Identifier: MIT
// The names by which rules silence findings (`lint: {allow: [name]}`), fdbroker-policy(5) "Findings".
#pragma once

#include <array>
#include <string_view>

namespace fdbroker::policy {

inline constexpr std::array<std::string_view, 15> lint_names{
    "denied-everywhere",    "shadowed",        "mixed-delivery",    "unprivileged-directory",
    "append-by-descriptor", "sensitive-read",  "missing-directory", "role-without-peers",
    "deny-by-groups",       "follow-writable", "mixed-access",      "rename-follows-nothing",
    "linked-directory",     "wide-directory",  "folded-names",
};

}  // namespace fdbroker::policy
