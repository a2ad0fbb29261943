// SPDX-License-Identifier: MIT
// Whether one pattern matches everything that another one matches.
#pragma once

#include "policy/matching/pattern.hpp"

namespace fdbroker::policy {

enum class Reach : std::uint8_t {
    itself,     // as an allow rule's pattern: what matches
    and_below,  // as a deny rule's: everything below that, too
};

// True: every path that `narrow` (an allow rule's) matches, `wide` reaches, whoever the peer. False: it may not. Where
// only `/dir` of `/dir/**` is concerned (stat and list), `wide` may lack it.
bool covers(const Pattern& wide, Reach reach, const Pattern& narrow);

}  // namespace fdbroker::policy
