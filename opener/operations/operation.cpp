// SPDX-License-Identifier: MIT
#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

Attempt<InspectedFile> inspected(const OperationContext& context, const policy::Grant& grant,
                                 Attempt<ResolvedFile> resolved) {
    context.services.metrics.done(Step::resolve);
    if (!resolved) return std::unexpected(resolved.error());
    auto file = context.services.inspector.inspect(std::move(*resolved), grant, context.uid());
    context.services.metrics.done(Step::inspect);
    return file;
}

}  // namespace

void complete(Outcome& outcome, const GrantedRequest& granted) {
    if (outcome.payload.size() > granted.payload_room)
        outcome = refused(Step::deliver, EMSGSIZE, "the batch leaves no room for the answer");
    outcome.operations = granted.grant.operations();
    if (outcome.final_path.empty()) outcome.rule = &granted.grant.rule();
}

Attempt<InspectedFile> open_inspected(const OperationContext& context, const policy::Grant& grant,
                                      std::uint64_t flags) {
    return inspected(context, grant, context.services.resolver.resolve(grant, flags, context.execution));
}

Attempt<InspectedFile> open_inspected_in(const OperationContext& context, const policy::Grant& grant,
                                         const ResolvedParent& parent, std::uint64_t flags) {
    return inspected(context, grant, context.services.resolver.resolve_in(parent, flags));
}

}  // namespace fdbroker::opener
