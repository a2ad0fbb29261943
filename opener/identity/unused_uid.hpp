// SPDX-License-Identifier: MIT
// A uid that nobody has.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>

namespace fdbroker::opener {

// systemd's range for dynamic users: no distribution gives its accounts a uid from it.
// https://systemd.io/UIDS-GIDS/
inline constexpr uid_t first_unassigned_uid = 61184;
inline constexpr uid_t last_unassigned_uid = 65519;

// Every uid and gid that a running process has: real, effective, saved and for files.
std::set<std::uint32_t> ids_of_processes();

// The first one of the range, counted from `offset` (of any size) and round, that `is_taken` says no to.
std::optional<uid_t> find_unused_uid(std::uint32_t offset, const std::function<bool(uid_t)>& is_taken);

}  // namespace fdbroker::opener
