// SPDX-License-Identifier: MIT
// A decimal number in the environment.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace fdbroker::opener {

// nullopt: the variable is missing, or holds anything but one decimal number.
inline std::optional<std::int64_t> environment_number(const char* variable) {
    const char* const value = ::getenv(variable);
    if (value == nullptr) return std::nullopt;
    const std::string_view text = value;
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return number;
}

}  // namespace fdbroker::opener
