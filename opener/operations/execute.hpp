// SPDX-License-Identifier: MIT
// The second half of a request's way: what was decided is carried out. Resolves, inspects, and has the side effects of
// every operation.
//
// The same code runs in two contexts. In the broker's loop, which serves everyone, it does what cannot block, and sends
// the rest to a helper. There it begins anew, and may block.
#pragma once

#include <cstdint>

#include "opener/request/decide.hpp"
#include "opener/request/outcome.hpp"
#include "opener/request/request_services.hpp"
#include "opener/resolve/execution_context.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// The calls that are carried out; bit n: proto::Call n. The hello tells it to clients.
inline constexpr std::uint64_t served_calls = (std::uint64_t{1} << proto::call_count) - 1;

// Completion::needs_helper: in the loop only.
Outcome execute(const RequestServices& services, const policy::Peer& peer, const GrantedRequest& granted,
                const ExecutionContext& execution);

}  // namespace fdbroker::opener
