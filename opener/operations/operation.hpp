// SPDX-License-Identifier: MIT
// The parts that the operations of a policy have in common: their context, and how they end.
//
// Each is a function of an OperationContext and a Grant. A followed link leads to another grant, for another path, and the
// operation begins again with it (operations/links.hpp). So the grant is passed beside the context.
#pragma once

#include <cerrno>
#include <expected>
#include <memory>
#include <optional>
#include <utility>

#include "opener/base/sparse_string.hpp"
#include "opener/request/background_work.hpp"
#include "opener/request/decide.hpp"
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

// Where links that were followed led.
struct LedTo {
    SparseString path{};                 // empty: none was followed
    const policy::Rule* rule = nullptr;  // that decided about it; null: none
};

// Why an operation ended without being done, and at which step.
struct Stop {
    proto::Step step = proto::Step::none;
    int errno_value = 0;
    SparseString reason{};
    LedTo led_to{};

    // Nothing has been done, and a helper has to do it.
    bool needs_helper() const noexcept { return errno_value == 0; }
};

// The answer of an operation.
struct Answer {
    std::optional<DeliverableFile> file{};
    SparseString payload{};
    std::unique_ptr<BackgroundWork> background{};
    LedTo led_to{};
};

template <typename T>
using Done = std::expected<T, Stop>;

inline std::unexpected<Stop> stop_at(proto::Step step, const Obstacle& obstacle) {
    return std::unexpected(Stop{step, obstacle.errno_value, obstacle.text});
}
// The result for a system call that has just failed.
inline std::unexpected<Stop> call_failed(proto::Step step, int errno_value = errno) {
    return std::unexpected(Stop{step, errno_value, explain_open_failure(errno_value)});
}
// For what is only ever done where it may block.
inline std::unexpected<Stop> not_here() {
    return stop_at(proto::Step::resolve, only_in_a_helper);
}

// How the request ended, as the peer and the record are told.
Outcome outcome_of(const GrantedRequest& granted, Done<Answer> done);

// resolve() and inspect() in one.
Done<InspectedFile> open_inspected(const OperationContext& context, const policy::Grant& grant,
                                   std::uint64_t flags);
// The same for the object that has the parent's name now.
Done<InspectedFile> open_inspected_in(const OperationContext& context, const policy::Grant& grant,
                                      const ResolvedParent& parent, std::uint64_t flags);

}  // namespace fdbroker::opener
