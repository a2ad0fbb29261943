// SPDX-License-Identifier: MIT
// What becomes of an operation that meets a symbolic link. The kernel follows none: where the rules say `follow`, the link
// is read, the name rewritten, and the new name decided on before anything of it is touched.
#pragma once

#include <functional>
#include <optional>

#include "opener/operations/operation.hpp"
#include "opener/request/call_table.hpp"

namespace fdbroker::opener {

// As the kernel's own limit: MAXSYMLINKS of include/linux/namei.h.
inline constexpr unsigned max_links = 40;

// The walker of links: find, rewrite, decide again. The broker carries out operations with it, and `openerctl policy
// explain` tells with it what the broker would do.
struct LinkWalk {
    const policy::Policy& policy;
    const policy::Peer& peer;
    const ExecutionContext& execution;
    LastLink last = LastLink::follow;
};
using FindLink = std::function<std::optional<FoundLink>(const policy::Grant&)>;
using Attempted = std::function<Attempt<Outcome>(const policy::Grant&)>;

// A refusal because of a link on the way of this grant's path names the link that `find` finds there.
Outcome name_link(const FindLink& find, const policy::Grant& grant, const Obstacle& obstacle);

// Does `attempt` with the grant. As often as that ends at a link that every rule of the grant follows, does it again with the
// grant for the link's target. A refusal names the link.
Outcome with_links(const LinkWalk& walk, policy::Grant grant, const FindLink& find, const Attempted& attempt);
// The same for the broker's request.
Outcome with_links(const OperationContext& context, LastLink last, const Attempted& attempt);

}  // namespace fdbroker::opener
