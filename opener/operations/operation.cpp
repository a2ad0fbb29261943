// SPDX-License-Identifier: MIT
#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

Done<InspectedFile> inspected(const OperationContext& context, const policy::Grant& grant,
                              Attempt<ResolvedFile> resolved) {
    context.services.metrics.done(Step::resolve);
    if (!resolved) return stop_at(Step::resolve, resolved.error());
    auto file = context.services.inspector.inspect(std::move(*resolved), grant, context.uid());
    context.services.metrics.done(Step::inspect);
    if (!file) return stop_at(Step::inspect, file.error());
    return std::move(*file);
}

}  // namespace

Outcome outcome_of(const GrantedRequest& granted, Done<Answer> done) {
    const policy::Grant& grant = granted.grant;
    Outcome outcome{.operations = grant.operations(), .rule = &grant.rule()};
    if (done && done->payload.size() > granted.payload_room)
        done = stop_at(Step::deliver, {EMSGSIZE, "the batch leaves no room for the answer"});
    LedTo& led_to = done ? done->led_to : done.error().led_to;
    if (!led_to.path.empty()) outcome.rule = led_to.rule;
    outcome.final_path = std::move(led_to.path);
    if (done) {
        outcome.file = std::move(done->file);
        outcome.payload = std::move(done->payload);
        outcome.background = std::move(done->background);
        return outcome;
    }
    outcome.errno_value = done.error().errno_value;
    outcome.step = outcome.recorded_step = done.error().step;
    outcome.reason = std::move(done.error().reason);
    // As where the name that was asked for is told not to exist.
    if (outcome.step == Step::decide && outcome.errno_value == ENOENT)
        tell_instead(outcome, Step::resolve, explain_open_failure(ENOENT));
    return outcome;
}

Done<InspectedFile> open_inspected(const OperationContext& context, const policy::Grant& grant,
                                   std::uint64_t flags) {
    return inspected(context, grant, context.services.resolver.resolve(grant, flags, context.execution));
}

Done<InspectedFile> open_inspected_in(const OperationContext& context, const policy::Grant& grant,
                                      const ResolvedParent& parent, std::uint64_t flags) {
    return inspected(context, grant, context.services.resolver.resolve_in(parent, flags));
}

}  // namespace fdbroker::opener
