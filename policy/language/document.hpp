// SPDX-License-Identifier: MIT
// One YAML file as a tree in which every node knows its place. Nothing here knows the policy language.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/language/problems.hpp"

namespace fdbroker::policy {

inline constexpr std::size_t max_document_bytes = 32U << 20;
inline constexpr std::size_t max_document_depth = 16;

struct Node {
    enum class Kind : std::uint8_t {
        null,
        scalar,
        sequence,
        mapping,
        broken,  // an error about it has been told already
    };
    Kind kind = Kind::null;
    bool quoted = false;  // a scalar in quotes: text, never a number or a truth value
    Mark mark{};
    std::string text{};            // the value of a scalar
    std::vector<Node> children{};  // a sequence's entries; a mapping's: key, value, key, value
};

// For every scalar among nodes[0], nodes[step], nodes[2 * step]… whose text an earlier one has: repeated(it, the first).
void find_repeated(std::span<const Node> nodes, std::size_t step,
                   const std::function<void(const Node& later, const Node& first)>& repeated);

// The root of the single document in `text`; its errors go to `problems`. Aliases, anchors, tags, directives,
// duplicate keys, keys that are not words, further documents, NUL bytes, invalid UTF-8 and depth over 16 are errors.
// Nothing: no tree could be made.
std::optional<Node> parse_document(std::string_view text, std::uint32_t file, Problems& problems);

}  // namespace fdbroker::policy
