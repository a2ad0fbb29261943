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

// What a rule's conditions keep from the peer at the old name they must not give it at the new one.
std::optional<Obstacle> gains_by_conditions(const OperationContext& work, const policy::RenameGrant& grant,
                                            const ObjectStatus& object) {
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const auto operation = static_cast<Operation>(bit);
        if (!grant.at_new_name.contains(operation)) continue;
        const auto before = work.tools.policy.decide(work.peer, {operation}, grant.from.path());
        const auto after = work.tools.policy.decide(work.peer, {operation}, grant.to.path());
        const Inspector& inspector = work.tools.inspector;
        if (before && after && inspector.refuse(object, *before, work.uid()) &&
            !inspector.refuse(object, *after, work.uid()))
            return Obstacle{EACCES, "the conditions of the rules at its old name would no longer hold it"};
    }
    return std::nullopt;
}

std::optional<Obstacle> refuse_object(const OperationContext& work, const policy::RenameGrant& grant,
                                      const ObjectStatus& object) {
    if (object.type == FileType::directory && !grant.directories)
        return Obstacle{EACCES,
                        "a directory moves only with rename: {directories: true} and where the same rules "
                        "govern what is below both names"};
    if (const auto obstacle = work.tools.inspector.refuse(object, grant.to, work.uid())) return obstacle;
    return gains_by_conditions(work, grant, object);
}

// What the request would replace must be something that the peer may remove. What its rules do not let it remove is kept
// by RENAME_NOREPLACE.
Done<unsigned> flags_for(const OperationContext& work, const policy::RenameGrant& grant,
                         const ResolvedParent& to) {
    if (!grant.may_replace || (work.request().flags & RENAME_NOREPLACE) != 0)
        return unsigned{RENAME_NOREPLACE};
    const auto removal = work.tools.policy.decide(work.peer, {Operation::remove}, grant.to.path());
    if (!removal) return unsigned{RENAME_NOREPLACE};
    const auto replaced = open_inspected_in(work, *removal, to, O_PATH);
    // What takes the name from now on nobody has looked at.
    if (!replaced && replaced.error().errno_value == ENOENT) return unsigned{RENAME_NOREPLACE};
    if (!replaced) return std::unexpected(replaced.error());
    return 0U;
}

bool may_replace(const OperationContext& work, const policy::RenameGrant& grant) {
    return grant.may_replace && (work.request().flags & RENAME_NOREPLACE) == 0;
}

std::unexpected<Stop> new_name_is_taken(const OperationContext& work, const policy::RenameGrant& grant) {
    if (grant.may_replace || (work.request().flags & RENAME_NOREPLACE) != 0)
        return call_failed(Step::deliver, EEXIST);
    return stop_at(Step::inspect, {EACCES, "no rule allows remove at its new name, which is taken"});
}

// Gives what was set aside its new name.
Done<void> move(const OperationContext& work, const policy::RenameGrant& grant, const ResolvedParent& from,
                SetAside& object, const ResolvedParent& to) {
    for (unsigned tries = 1;; ++tries) {
        const auto flags = flags_for(work, grant, to);
        if (!flags) return std::unexpected(flags.error());
        const bool done = (*flags == 0 ? rename_over : rename_to_free)(from.descriptor(), object.name(),
                                                                       to.descriptor(), to.name()) == 0;
        if (done) {
            // rename(2) does nothing where both are names of one file: then it has its old name back.
            if (*flags != 0 || !exists(from.descriptor(), object.name())) object.release();
            return {};
        }
        if (errno != EEXIST || *flags == 0 || tries == max_renames) return call_failed(Step::deliver);
        if (!may_replace(work, grant)) return new_name_is_taken(work, grant);
    }
}

}  // namespace

Done<Answer> rename_object(const OperationContext& work) {
    if (!work.place.may_block()) return not_here();
    const policy::RenameGrant& grant = *work.granted.rename;
    const auto find = [&work](const policy::Grant& one) {
        return work.tools.resolver.find_link(one, work.place);
    };
    const auto from = work.tools.resolver.resolve_parent(grant.from);
    if (!from) return name_link(find, grant.from, stop_at(Step::resolve, from.error()));
    const auto to = work.tools.resolver.resolve_parent(grant.to);
    if (!to) return name_link(find, grant.to, stop_at(Step::resolve, to.error()));
    const auto object = open_inspected_in(work, grant.from, *from, O_PATH);
    if (!object) return std::unexpected(object.error());
    if (const auto obstacle = refuse_object(work, grant, object->status()))
        return stop_at(Step::inspect, *obstacle);
    // Not before it is looked at: for as long as it is aside nobody finds it.
    if (!may_replace(work, grant) && exists(to->descriptor(), to->name()))
        return new_name_is_taken(work, grant);
    auto aside = SetAside::take(*from, object->status());
    if (!aside) return std::unexpected(aside.error());
    if (const auto moved = move(work, grant, *from, *aside, *to); !moved)
        return std::unexpected(moved.error());
    return Answer{};
}

}  // namespace fdbroker::opener
