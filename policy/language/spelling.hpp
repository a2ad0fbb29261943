// SPDX-License-Identifier: MIT
// Which word was meant.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fdbroker::policy {

// ` (did you mean "paths"?)` for the nearest of the words, or nothing when none is near.
std::string did_you_mean(std::string_view written, std::span<const std::string_view> words);

}  // namespace fdbroker::policy
