// SPDX-License-Identifier: MIT
#include "opener/operations/rename.hpp"

#include <fcntl.h>
#include <linux/fs.h>

#include "opener/operations/links.hpp"
#include "opener/operations/temporary.hpp"
#include "policy/matching/rename.hpp"

namespace fdbroker::opener {

using policy::FileType;
using policy::Operation;
using proto::Step;

namespace {

// How often something may take the new name between the look at it and the rename.
constexpr unsigned max_renames = 16;

// Conditions that keep something from the peer at the old name must not give it at the new one.
std::optional<Obstacle> gains_by_conditions(const OperationContext& context, const policy::RenameGrant& grant,
                                            const ObjectStatus& object) {
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const auto operation = static_cast<Operation>(bit);
        if (!grant.at_new_name.contains(operation)) continue;
        const auto before = context.services.policy.decide(context.peer, {operation}, grant.from.path());
        const auto after = context.services.policy.decide(context.peer, {operation}, grant.to.path());
        const Inspector& inspector = context.services.inspector;
        if (before && after && inspector.refuse(object, *before, context.uid()) &&
            !inspector.refuse(object, *after, context.uid()))
            return Obstacle{EACCES, "the conditions of the rules at its old name would no longer hold it"};
    }
    return std::nullopt;
}

std::optional<Obstacle> refuse_object(const OperationContext& context, const policy::RenameGrant& grant,
                                      const ObjectStatus& object) {
    if (object.type == FileType::directory && !grant.directories)
        return Obstacle{EACCES,
                        "a directory moves only with rename: {directories: true} and where the same rules "
                        "govern what is below both names"};
    if (const auto obstacle = context.services.inspector.refuse(object, grant.to, context.uid()))
        return obstacle;
    return gains_by_conditions(context, grant, object);
}

// The peer must have the right to remove an object that the rename replaces. RENAME_NOREPLACE keeps the objects that the rules
// do not let it remove.
Attempt<unsigned> flags_for(const OperationContext& context, const policy::RenameGrant& grant,
                            const ResolvedParent& to) {
    if (!grant.may_replace || (context.request().flags & RENAME_NOREPLACE) != 0)
        return unsigned{RENAME_NOREPLACE};
    const auto removal = context.services.policy.decide(context.peer, {Operation::remove}, grant.to.path());
    if (!removal) return unsigned{RENAME_NOREPLACE};
    const auto replaced = open_inspected_in(context, *removal, to, O_PATH);
    // An object that takes the name from now on has not been inspected.
    if (!replaced && replaced.error().errno_value == ENOENT) return unsigned{RENAME_NOREPLACE};
    if (!replaced) return std::unexpected(replaced.error());
    return 0U;
}

bool may_replace(const OperationContext& context, const policy::RenameGrant& grant) {
    return grant.may_replace && (context.request().flags & RENAME_NOREPLACE) == 0;
}

std::unexpected<Obstacle> new_name_is_taken(const OperationContext& context,
                                            const policy::RenameGrant& grant) {
    if (grant.may_replace || (context.request().flags & RENAME_NOREPLACE) != 0)
        return call_failed(Step::deliver, EEXIST);
    return obstacle_at(Step::inspect, {EACCES, "no rule allows remove at its new name, which is taken"});
}

// Gives what was set aside its new name.
Attempt<void> move(const OperationContext& context, const policy::RenameGrant& grant,
                   const ResolvedParent& from, SetAside& object, const ResolvedParent& to) {
    for (unsigned tries = 1;; ++tries) {
        const auto flags = flags_for(context, grant, to);
        if (!flags) return std::unexpected(flags.error());
        const bool done = (*flags == 0 ? rename_over : rename_to_free)(from.descriptor(), object.name(),
                                                                       to.descriptor(), to.name()) == 0;
        if (done) {
            // rename(2) does nothing where both are names of one file: then it has its old name back.
            if (*flags != 0 || !exists(from.descriptor(), object.name())) object.release();
            return {};
        }
        if (errno != EEXIST || *flags == 0 || tries == max_renames) return call_failed(Step::deliver);
        if (!may_replace(context, grant)) return new_name_is_taken(context, grant);
    }
}

}  // namespace

Attempt<Outcome> rename_object(const OperationContext& context, const policy::Grant&) {
    const policy::RenameGrant& grant = *context.granted.rename;
    const auto find = [&context](const policy::Grant& one) {
        return context.services.resolver.find_link(one, context.execution);
    };
    const auto from = context.services.resolver.resolve_parent(grant.from);
    if (!from) return name_link(find, grant.from, from.error());
    const auto to = context.services.resolver.resolve_parent(grant.to);
    if (!to) return name_link(find, grant.to, to.error());
    const auto object = open_inspected_in(context, grant.from, *from, O_PATH);
    if (!object) return std::unexpected(object.error());
    if (const auto obstacle = refuse_object(context, grant, object->status()))
        return obstacle_at(Step::inspect, *obstacle);
    // Not before it is looked at: for as long as it is aside nobody finds it.
    if (!may_replace(context, grant) && exists(to->descriptor(), to->name()))
        return new_name_is_taken(context, grant);
    auto aside = SetAside::take(*from, object->status());
    if (!aside) return std::unexpected(aside.error());
    if (const auto moved = move(context, grant, *from, *aside, *to); !moved)
        return std::unexpected(moved.error());
    return Outcome{};
}

}  // namespace fdbroker::opener
