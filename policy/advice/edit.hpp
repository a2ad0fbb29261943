// SPDX-License-Identifier: MIT
// Policies that are a loaded one but for an edit: to see what the edit would do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "policy/language/draft.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// The draft compiles to a policy that decides as this one does. Tests are left out.
PolicyDraft draft_of(const Policy& policy);

// Whether a role means a user by name: a peer whose uid has no name does not hold it then.
enum class Meant : std::uint8_t { by_number, by_name };
// Index of a role that this user alone holds; it is added when there is none. `socket`: only on that listener; empty: on
// each.
std::uint32_t role_of_user(PolicyDraft& draft, std::uint32_t uid, Meant meant, const std::string& socket);

// A pattern that matches this path and no other: metacharacters are escaped, and bytes that no text holds are \xHH.
std::string pattern_of(std::string_view path);

// A pattern as a rule has it; it must be one that parse_pattern() accepts.
PathDraft path_draft(std::string pattern);

}  // namespace fdbroker::policy
