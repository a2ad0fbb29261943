#include "opener/operations/rename.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "opener/operations/links.hpp"
#include "policy/rename.hpp"

namespace fdbroker::opener {

using policy::FileType;
using policy::Operation;
using proto::Step;

namespace {

// How often something may take the new name between the look at it and the rename.
constexpr unsigned most_renames = 16;

int rename_by_name(const ResolvedParent& from, const ResolvedParent& to, unsigned flags) {
    return static_cast<int>(::syscall(SYS_renameat2, from.descriptor().number(), from.name(),
                                      to.descriptor().number(), to.name(), flags));
}

// What a rule's conditions keep from the peer at the old name they must not give it at the new one.
std::optional<Obstacle> gains_by_conditions(const Work& work, const policy::RenameGrant& grant,
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

std::optional<Obstacle> refuse_object(const Work& work, const policy::RenameGrant& grant,
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
Done<unsigned> flags_for(const Work& work, const policy::RenameGrant& grant, const ResolvedParent& to) {
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

Done<void> move(const Work& work, const policy::RenameGrant& grant, const ResolvedParent& from,
                const ResolvedParent& to) {
    const bool may_replace = grant.may_replace && (work.request().flags & RENAME_NOREPLACE) == 0;
    for (unsigned tries = 1;; ++tries) {
        const auto flags = flags_for(work, grant, to);
        if (!flags) return std::unexpected(flags.error());
        if (rename_by_name(from, to, *flags) == 0) return {};
        // A filesystem that knows no flags (rename(2)).
        if (errno == EINVAL && may_replace && *flags != 0 && rename_by_name(from, to, 0) == 0) return {};
        if (errno == EEXIST && !grant.may_replace && (work.request().flags & RENAME_NOREPLACE) == 0)
            return stop_at(Step::inspect, {EACCES, "no rule allows remove at its new name, which is taken"});
        if (errno != EEXIST || !may_replace || *flags == 0 || tries == most_renames)
            return call_failed(Step::deliver);
    }
}

// Between the look at the object and its rename another may have taken its name. It goes back, unless its old name is
// taken again.
Done<void> verify(const Work& work, const policy::RenameGrant& grant, const ObjectStatus& object,
                  const ResolvedParent& from, const ResolvedParent& to) {
    const auto moved = open_inspected_in(work, grant.to, to, O_PATH);
    if (moved && moved->status().device == object.device && moved->status().inode == object.inode) return {};
    // Somebody else is at the new name already: what was moved is no longer there.
    if (!moved && moved.error().errno_value == ENOENT) return {};
    rename_by_name(to, from, RENAME_NOREPLACE);
    return stop_at(Step::deliver, {EAGAIN, "another object took its name meanwhile"});
}

}  // namespace

Done<Answer> rename_object(const Work& work) {
    if (!work.place.may_block()) return not_here();
    const policy::RenameGrant& grant = *work.granted.rename;
    const auto from = work.tools.resolver.resolve_parent(grant.from);
    if (!from) return name_link(work, grant.from, stop_at(Step::resolve, from.error()));
    const auto to = work.tools.resolver.resolve_parent(grant.to);
    if (!to) return name_link(work, grant.to, stop_at(Step::resolve, to.error()));
    const auto object = open_inspected_in(work, grant.from, *from, O_PATH);
    if (!object) return std::unexpected(object.error());
    if (const auto obstacle = refuse_object(work, grant, object->status()))
        return stop_at(Step::inspect, *obstacle);
    if (const auto moved = move(work, grant, *from, *to); !moved) return std::unexpected(moved.error());
    if (const auto same = verify(work, grant, object->status(), *from, *to); !same)
        return std::unexpected(same.error());
    return Answer{};
}

}  // namespace fdbroker::opener
