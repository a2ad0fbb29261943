#include "opener/execute.hpp"

#include <cerrno>
#include <utility>

namespace fdbroker::opener {

using proto::Step;

namespace {

constexpr policy::OperationSet served_operations{policy::Operation::read};

Outcome stopped(Outcome outcome, Step step, const Obstacle& obstacle) {
    outcome.errno_value = obstacle.errno_value;
    outcome.step = outcome.recorded_step = step;
    outcome.reason = outcome.recorded_reason = obstacle.text;
    return outcome;
}

}  // namespace

std::optional<Outcome> execute(const Tools& tools, const policy::Peer& peer, const GrantedRequest& granted,
                               const Place& place) {
    const policy::Grant& grant = granted.grant;
    Outcome outcome{.operations = grant.operations(), .rule = &grant.rule()};
    if (!served_operations.contains_all(grant.operations()) ||
        grant.rule().delivery != policy::Delivery::descriptor) {
        return stopped(std::move(outcome), Step::resolve,
                       {EOPNOTSUPP, "this version delivers files for reading, as descriptors, only"});
    }
    auto resolved = tools.resolver.resolve(grant, granted.flags, place);
    tools.metrics.done(Step::resolve);
    if (!resolved) {
        if (resolved.error().needs_helper()) return std::nullopt;
        return stopped(std::move(outcome), Step::resolve, resolved.error());
    }
    auto file = tools.inspector.inspect(std::move(*resolved), grant, granted.flags, peer.identity().uid);
    tools.metrics.done(Step::inspect);
    if (!file) return stopped(std::move(outcome), Step::inspect, file.error());
    outcome.file = std::move(*file);
    return outcome;
}

}  // namespace fdbroker::opener
