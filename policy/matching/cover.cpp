// SPDX-License-Identifier: MIT
#include "policy/matching/cover.hpp"

namespace fdbroker::policy {
namespace {

bool covers_name(const Component& wide, const Component& narrow) {
    if (narrow.any_depth) return false;
    if (wide.glob.program() == narrow.glob.program() || wide.glob.is_any_name()) return true;
    return narrow.glob.is_literal() && !wide.glob.has_variable() &&
           glob_matches(wide.glob.program(), narrow.glob.literal(), PeerValues{});
}

bool covers_from(const Pattern& wide, std::size_t at, Reach reach, const Pattern& narrow, std::size_t place) {
    if (at == wide.components.size()) return reach == Reach::and_below || place == narrow.components.size();
    if (wide.components[at].any_depth) {
        if (at + 1 == wide.components.size()) return place < narrow.components.size();
        for (std::size_t rest = place; rest <= narrow.components.size(); ++rest)
            if (covers_from(wide, at + 1, reach, narrow, rest)) return true;
        return false;
    }
    return place < narrow.components.size() && covers_name(wide.components[at], narrow.components[place]) &&
           covers_from(wide, at + 1, reach, narrow, place + 1);
}

// Bounds the tries of covers_from, which go over every way to divide `narrow` among the `**` of `wide`.
constexpr std::size_t max_any_depths = 3;

}  // namespace

bool covers(const Pattern& wide, Reach reach, const Pattern& narrow) {
    std::size_t any_depths = 0;
    for (const Component& component : wide.components) any_depths += component.any_depth ? 1U : 0U;
    return any_depths <= max_any_depths && covers_from(wide, 0, reach, narrow, 0);
}

}  // namespace fdbroker::policy
