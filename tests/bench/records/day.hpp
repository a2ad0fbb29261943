// SPDX-License-Identifier: MIT
// A day of audit records as a busy opener would write them: several users and rules, refusals of all sorts, sessions, a
// reload, a crash; chained, and the same for the same number of records.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fdbroker::bench {

// Calls `use` with lines, each with its line feed, until `count` records have been made.
void make_day(std::uint64_t count, const std::function<void(std::string_view lines)>& use);

// The policy that decided them, and one that decides some of them otherwise.
std::string policy_of_day();
std::string stricter_policy_of_day();

}  // namespace fdbroker::bench
