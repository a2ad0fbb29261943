// SPDX-License-Identifier: MIT
// Messages of requests of which either all are answered with success or none is ("All or nothing", PROTOCOL.md).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "opener/request/outcome.hpp"
#include "opener/request/request_services.hpp"
#include "opener/resolve/execution_context.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// `message`: of requests, as it came.
proto::Batch batch_of(std::span<const std::byte> message) noexcept;

// Decides on all before anything of any is touched, then does what execute() does for each. `payload_room`: what the
// payloads may take together. In the loop only: where none is refused and one needs a helper, a helper has to do all.
std::vector<Outcome> carry_out_together(const RequestServices& services, const policy::Peer& peer,
                                        std::span<const proto::Request> requests, std::size_t payload_room,
                                        const ExecutionContext& execution);
bool need_helper(std::span<const Outcome> outcomes) noexcept;

}  // namespace fdbroker::opener
