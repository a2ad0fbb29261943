// SPDX-License-Identifier: MIT
// Bytes in JSON, as audit records and the control socket have them: one character, U+0000 to U+00FF, for each byte.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fdbroker::opener {

// In UTF-8.
std::string characters_of(std::string_view bytes);
// nullopt: `characters`, which are UTF-8, hold one that stands for no byte.
std::optional<std::string> bytes_of(std::string_view characters);

}  // namespace fdbroker::opener
