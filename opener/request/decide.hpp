// SPDX-License-Identifier: MIT
// The first half of a request's way: parse and decide. Pure; nothing of the path is looked at on disk.
#pragma once

#include <expected>
#include <optional>
#include <string_view>

#include "opener/request/outcome.hpp"
#include "opener/request/tools.hpp"
#include "opener/resolve/open_flags.hpp"
#include "policy/matching/policy.hpp"
#include "policy/matching/rename.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// Where extended attributes may be asked for: the one namespace that has no meaning to the kernel (xattr(7)). The others
// are modes, capabilities and labels.
inline constexpr std::string_view attribute_namespace = "user.";

// A request that the policy allows. Borrows the request, whose path must stay where it is, and the policy.
struct GrantedRequest {
    const proto::Request& request;
    OpenFlags flags;  // of open
    policy::Grant grant;
    std::optional<policy::RenameGrant>
        rename{};  // of rename, which has two paths; `grant` is that of the first
    // The number of the job that it is in a helper, which becomes that of a put.
    std::uint64_t job = 0;
    // What of a message the payload of the reply may take, in bytes.
    std::size_t payload_room = proto::max_payload;
};

// What is refused here ends here: nothing of it is ever looked at.
std::expected<GrantedRequest, Outcome> decide(const RequestServices& tools, const policy::Peer& peer,
                                              const proto::Request& request);

}  // namespace fdbroker::opener
