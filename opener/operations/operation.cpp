// SPDX-License-Identifier: MIT
#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

Done<InspectedFile> inspected(const OperationContext& work, const policy::Grant& grant,
                              Attempt<ResolvedFile> resolved) {
    work.tools.metrics.done(Step::resolve);
    if (!resolved) return stop_at(Step::resolve, resolved.error());
    auto file = work.tools.inspector.inspect(std::move(*resolved), grant, work.uid());
    work.tools.metrics.done(Step::inspect);
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
        outcome.lasting = std::move(done->lasting);
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

Done<InspectedFile> open_inspected(const OperationContext& work, const policy::Grant& grant,
                                   std::uint64_t flags) {
    return inspected(work, grant, work.tools.resolver.resolve(grant, flags, work.place));
}

Done<InspectedFile> open_inspected_in(const OperationContext& work, const policy::Grant& grant,
                                      const ResolvedParent& parent, std::uint64_t flags) {
    return inspected(work, grant, work.tools.resolver.resolve_in(parent, flags));
}

}  // namespace fdbroker::opener
