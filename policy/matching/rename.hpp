// SPDX-License-Identifier: MIT
// May this be called that? A rename must not give its peer anything: what it may do at the new name it may do at the old
// one, and a directory moves only between places that the same rules govern all the way down.
#pragma once

#include <expected>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// Both grants borrow their paths.
struct RenameGrant {
    Grant from;
    Grant to;
    bool may_replace = false;    // `remove` is allowed at the new name
    bool directories = false;    // a directory may move, as far as the rules go
    OperationSet at_new_name{};  // all that is allowed there
};

struct RenameRefusal {
    Refusal refusal{};  // told when `gains` is empty
    bool at_new_name = false;
    OperationSet gains{};  // allowed at the new name and not at the old one
};

// Needs `rename` at both names. Pure; takes time that grows with the paths and with the policy's wildcards on them.
std::expected<RenameGrant, RenameRefusal> decide_rename(const Policy& policy, const Peer& peer,
                                                        RequestPath from, RequestPath to);

// Whether exactly the same patterns, in the same places of their own, reach below both paths.
bool same_rules_below(const Policy& policy, const Peer& peer, RequestPath one, RequestPath other);

}  // namespace fdbroker::policy
