// SPDX-License-Identifier: MIT
// What becomes of an operation that meets a symbolic link. The kernel follows none: where the rules say `follow`, the link
// is read, the name rewritten, and the new name decided on before anything of it is touched.
#pragma once

#include <functional>
#include <optional>

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// As the kernel's own limit: MAXSYMLINKS of include/linux/namei.h.
inline constexpr unsigned max_links = 40;

// Whether a link in the last place of the path is followed as well.
enum class LastLink : std::uint8_t { follow, keep };
LastLink last_link_of(const GrantedRequest& granted) noexcept;

// The walker of links: find, rewrite, decide again. The broker carries out operations with it, and `openerctl policy
// explain` tells with it what the broker would do.
struct LinkWalk {
    const policy::Policy& policy;
    const policy::Peer& peer;
    const ExecutionContext& place;
    LastLink last = LastLink::follow;
};
using FindLink = std::function<std::optional<FoundLink>(const policy::Grant&)>;
using Attempted = std::function<Done<Answer>(const policy::Grant&)>;

// A refusal because of a link on the way of this grant's path names the link that `find` finds there.
std::unexpected<Stop> name_link(const FindLink& find, const policy::Grant& grant, std::unexpected<Stop> stop);

// Does `attempt` with the grant; as often as that ends at a link and every rule of the grant follows, with the grant of
// where the link leads to. A refusal names the link.
Done<Answer> with_links(const LinkWalk& walk, policy::Grant grant, const FindLink& find,
                        const Attempted& attempt);
// The same for the broker's request.
Done<Answer> with_links(const OperationContext& work, LastLink last, const Attempted& attempt);

}  // namespace fdbroker::opener
