// The first half of a request's way: parse and decide. Pure; nothing of the path is looked at on disk.
#pragma once

#include <array>
#include <expected>

#include "opener/open_flags.hpp"
#include "opener/outcome.hpp"
#include "opener/tools.hpp"
#include "policy/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// A request that the policy allows. Borrows the request, whose path must stay where it is, and the policy.
struct GrantedRequest {
    const proto::Request& request;
    OpenFlags flags;
    policy::Grant grant;
};

// Memory for the reason of a refusal.
using ReasonBuffer = std::array<char, proto::max_reason_length>;

// What is refused here ends here: nothing of it is ever looked at. The reason of that Outcome lives in `reason`, until
// the next call with the same buffer.
std::expected<GrantedRequest, Outcome> decide(const Tools& tools, const policy::Peer& peer,
                                              const proto::Request& request, ReasonBuffer& reason);

}  // namespace fdbroker::opener
