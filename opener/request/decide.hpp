// SPDX-License-Identifier: MIT
// The first half of a request's way: parse and decide. Pure; nothing of the path is looked at on disk.
#pragma once

#include <expected>
#include <optional>

#include "opener/request/outcome.hpp"
#include "opener/request/request_services.hpp"
#include "opener/resolve/open_flags.hpp"
#include "policy/matching/policy.hpp"
#include "policy/matching/rename.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// A request that the policy allows. Borrows the request, whose path must stay where it is, and the policy.
struct GrantedRequest {
    const proto::Request& request;
    OpenFlags flags;  // open's flags
    policy::Grant grant;
    std::optional<policy::RenameGrant>
        rename{};  // set for rename, which has two paths; `grant` is that of the first
    // The number of the job that it is in a helper, which becomes that of a put.
    std::uint64_t job = 0;
    // Bytes of a message that the payload of the reply may take.
    std::size_t payload_room = proto::max_payload;
};

// A request refused here ends here: nothing on disk is ever looked at.
std::expected<GrantedRequest, Outcome> decide(const RequestServices& services, const policy::Peer& peer,
                                              const proto::Request& request);

}  // namespace fdbroker::opener
