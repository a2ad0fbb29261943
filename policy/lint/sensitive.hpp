// SPDX-License-Identifier: MIT
// What is rarely meant to be read, for check --lint.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "policy/matching/pattern.hpp"

namespace fdbroker::policy {

struct Sensitive {
    // Which paths of a rule are suspicious besides those that match all of the pattern.
    enum class Within : std::uint8_t {
        all,        // every one that lies within it
        wildcards,  // a pattern with wildcards that lies within it; a single file is named on purpose
    };
    std::string_view what;  // as in "lets ... be read"
    Within within{};
    Pattern pattern{};
};

// Those of one kind follow each other.
std::vector<Sensitive> sensitive_paths();

// The pattern of `sensitive` that a rule with this pattern matches, or null.
const Pattern* reached(const Pattern& rule, const Sensitive& sensitive);

}  // namespace fdbroker::policy
