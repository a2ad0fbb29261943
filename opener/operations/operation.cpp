#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

Done<InspectedFile> inspected(const Work& work, const policy::Grant& grant, Attempt<ResolvedFile> resolved) {
    work.tools.metrics.done(Step::resolve);
    if (!resolved) return stop_at(Step::resolve, resolved.error());
    auto file = work.tools.inspector.inspect(std::move(*resolved), grant, work.uid());
    work.tools.metrics.done(Step::inspect);
    if (!file) return stop_at(Step::inspect, file.error());
    return std::move(*file);
}

}  // namespace

Done<InspectedFile> open_inspected(const Work& work, const policy::Grant& grant, std::uint64_t flags) {
    return inspected(work, grant, work.tools.resolver.resolve(grant, flags, work.place));
}

Done<InspectedFile> open_inspected_in(const Work& work, const policy::Grant& grant,
                                      const ResolvedParent& parent, std::uint64_t flags) {
    return inspected(work, grant, work.tools.resolver.resolve_in(parent, flags));
}

}  // namespace fdbroker::opener
