// SPDX-License-Identifier: MIT
// The path patterns of rules, fdbroker-policy(5) "Patterns": text → components.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/glob.hpp"

namespace fdbroker::policy {

// Limits of one pattern. The matcher descends one level per component, and each alternative of `{a,b}` becomes
// another pattern, so both are bounded.
inline constexpr std::size_t max_pattern_components = 255;
inline constexpr std::size_t max_pattern_alternatives = 256;

struct Component {
    bool any_depth = false;  // `**`: any number of whole components; then glob is empty
    Glob glob{};
};

struct Pattern {
    std::vector<Component> components{};  // none: `/` itself; never two any_depth in a row

    bool is_literal() const noexcept;
    // The path before the first component that is not literal; the whole of a literal pattern.
    std::string head() const;
    // The directory above the first component that is not literal; of a literal pattern the one that holds it.
    std::string directory() const;
};

// Makes a pattern for each combination of `{a,b}` alternatives, in the order they are written. The error says what is
// wrong and what was expected, without the text itself.
//
// Alternatives become patterns rather than a choice inside a component: each is found by hash, and each names a directory
// to be confined to.
std::expected<std::vector<Pattern>, std::string> parse_pattern(std::string_view text);

}  // namespace fdbroker::policy
