// SPDX-License-Identifier: MIT
// The parts that the operations of a policy have in common: their context, and how they end.
//
// Each is a function of an OperationContext and a Grant. A followed link leads to another grant, for another path, and the
// operation begins again with it (operations/links.hpp). So the grant is passed beside the context.
#pragma once

#include <cerrno>
#include <expected>
#include <utility>

#include "opener/request/decide.hpp"
#include "opener/request/outcome.hpp"
#include "opener/request/request_services.hpp"
#include "opener/resolve/execution_context.hpp"
#include "opener/resolve/resolver.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

struct OperationContext {
    const RequestServices& services;
    const policy::Peer& peer;
    const GrantedRequest& granted;
    const ExecutionContext& execution;

    const proto::Request& request() const noexcept { return granted.request; }
    std::uint32_t uid() const noexcept { return peer.identity().uid; }
};

inline std::unexpected<Obstacle> obstacle_at(proto::Step step, const Obstacle& obstacle) {
    return std::unexpected(obstacle.at(step));
}
// The result for a system call that has just failed.
inline std::unexpected<Obstacle> call_failed(proto::Step step, int errno_value = errno) {
    return obstacle_at(step, {errno_value, explain_open_failure(errno_value)});
}
// For what is only ever done where it may block.
inline std::unexpected<Obstacle> not_here() {
    return std::unexpected(only_in_a_helper);
}

// An attempt's outcome, as far as operations know it.
inline Outcome outcome_of(Attempt<Outcome>&& attempt) {
    if (attempt) return std::move(*attempt);
    return refused(attempt.error());
}
// Adds what the record is told besides. A payload that has no room in the message becomes a refusal.
void complete(Outcome& outcome, const GrantedRequest& granted);

// resolve() and inspect() in one.
Attempt<InspectedFile> open_inspected(const OperationContext& context, const policy::Grant& grant,
                                      std::uint64_t flags);
// The same for the object that has the parent's name now.
Attempt<InspectedFile> open_inspected_in(const OperationContext& context, const policy::Grant& grant,
                                         const ResolvedParent& parent, std::uint64_t flags);

}  // namespace fdbroker::opener
