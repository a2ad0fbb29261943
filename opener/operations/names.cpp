// SPDX-License-Identifier: MIT
#include "opener/operations/names.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/operations/temporary.hpp"
#include "policy/matching/creation_group.hpp"
#include "policy/matching/request_path.hpp"

namespace fdbroker::opener {

using policy::FileType;
using policy::Operation;
using policy::OperationSet;
using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

std::unexpected<Obstacle> cannot_be_given() {
    return obstacle_at(Step::deliver, {errno, "the opener cannot give it to its owner"});
}

// Where a filesystem has no unnamed files, or who runs the opener may not give one a name: the file is there before it
// has its owner.
Attempt<UniqueFd> create_in_place(const ResolvedParent& parent, const NewObject& object,
                                  std::uint64_t flags) {
    UniqueFd file(kernel::openat2(parent.descriptor().number(), parent.name(),
                                  flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, no_links_followed,
                                  object.mode));
    if (!file) return call_failed(Step::resolve);
    if (auto owned = apply_ownership(file.borrow(), object); !owned) {
        ::unlinkat(parent.descriptor().number(), parent.name(), 0);
        return std::unexpected(owned.error());
    }
    return file;
}

uid_t owner_of_new(const OperationContext& context, const policy::Grant& grant) {
    return grant.rule().create.owner.value_or(context.uid());
}

bool has_no_unnamed_files(int errno_value) noexcept {
    // open(2), O_TMPFILE: EOPNOTSUPP, or EISDIR and ENOENT from kernels and filesystems that do not know it.
    return errno_value == EOPNOTSUPP || errno_value == EISDIR || errno_value == ENOENT;
}

// mkdir(2) has no descriptor to give, so that somebody who may write to the parent could have put another directory there:
// one that is not ours is never given away.
Attempt<void> make_directory_as(const ResolvedParent& parent, const NewObject& object, std::string name) {
    constexpr mode_t permissions = 0777;
    if (::mkdirat(parent.descriptor().number(), name.c_str(), object.mode & permissions) != 0)
        return call_failed(Step::resolve);
    Unfinished made(parent, std::move(name), AT_REMOVEDIR);
    const UniqueFd directory(kernel::openat2(parent.descriptor().number(), made.name(),
                                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                                             no_links_followed | RESOLVE_NO_XDEV));
    if (!directory) return call_failed(Step::resolve);
    struct stat status;
    if (::syscall(SYS_fstat, directory.number(), &status) != 0) return call_failed(Step::inspect);
    if (status.st_uid != ::geteuid() || (status.st_mode & permissions & ~object.mode) != 0) {
        made.leave();
        return obstacle_at(Step::inspect, {EAGAIN, "another directory took its place"});
    }
    if (auto owned = apply_ownership(directory.borrow(), object); !owned) return owned;
    return made.finish();
}

// As with directories: symlink(2) gives no descriptor either.
Attempt<void> make_link_as(const ResolvedParent& parent, const NewObject& object, const char* target,
                           std::string name) {
    if (::symlinkat(target, parent.descriptor().number(), name.c_str()) != 0)
        return call_failed(Step::deliver);
    Unfinished made(parent, std::move(name), 0);
    const UniqueFd link(kernel::openat2(parent.descriptor().number(), made.name(),
                                        O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                        no_links_followed | RESOLVE_NO_XDEV));
    if (!link) return call_failed(Step::resolve);
    struct stat status;
    if (::syscall(SYS_fstat, link.number(), &status) != 0) return call_failed(Step::inspect);
    if (!S_ISLNK(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1) {
        made.leave();
        return obstacle_at(Step::inspect, {EAGAIN, "another object took its place"});
    }
    if ((status.st_uid != object.owner || status.st_gid != object.group) &&
        ::fchownat(link.number(), kernel::no_path, object.owner, object.group, AT_EMPTY_PATH) != 0)
        return cannot_be_given();
    return made.finish();
}

// A new object has a temporary name until it is whole; where no name can be changed it is made under the final one.
template <typename Make>
Attempt<void> make_whole(const ResolvedParent& parent, Make make_as) {
    if (!keeps_names(parent)) {
        auto name = temporary_name(Purpose::making);
        if (!name) return std::unexpected(name.error());
        auto made = make_as(std::move(*name));
        // A security module may forbid to rename as well.
        const bool forbidden = !made && made.error().step == Step::resolve &&
                               (made.error().errno_value == EPERM || made.error().errno_value == EACCES);
        if (!forbidden) return made;
    }
    return make_as(parent.name());
}

// Makes what is missing of the directories above the last name.
Attempt<void> make_parents(const OperationContext& context, const policy::Grant& grant) {
    const std::string path(grant.path().text());
    for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
        const std::string above = path.substr(0, end);
        const auto parsed = policy::RequestPath::parse(above);
        const auto granted = parsed ? grant_of_parent(context, grant, *parsed) : std::nullopt;
        if (!granted) continue;
        const auto there =
            context.services.resolver.resolve(*granted, O_PATH | O_DIRECTORY, context.execution);
        if (there) continue;
        if (there.error().errno_value != ENOENT) return std::unexpected(there.error());
        const auto parent = context.services.resolver.resolve_parent(*granted);
        if (!parent) return std::unexpected(parent.error());
        const auto made = create_directory(context, *granted, *parent);
        if (!made && made.error().errno_value != EEXIST) return made;
    }
    return {};
}

}  // namespace

Attempt<NewObject> new_object(const OperationContext& context, const policy::Grant& grant,
                              const ResolvedParent& parent, FileType type) {
    const policy::Creation& create = grant.rule().create;
    NewObject object{.mode = type == FileType::directory ? create.directory_mode() : create.mode,
                     .owner = owner_of_new(context, grant),
                     .group = create.group.value_or(context.peer.identity().gid)};
    if (create.group != policy::group_of_directory) return object;
    struct stat above;
    if (::syscall(SYS_fstat, parent.descriptor().number(), &above) != 0) return call_failed(Step::inspect);
    object.group = above.st_gid;
    if (type == FileType::directory) object.mode |= above.st_mode & S_ISGID;
    return object;
}

std::optional<policy::Grant> grant_of_parent(const OperationContext& context, const policy::Grant& grant,
                                             policy::RequestPath directory) {
    constexpr OperationSet making{Operation::create, Operation::mkdir, Operation::symlink};
    const policy::Decision decision =
        context.services.policy.decide(context.peer, grant.operations() & making, directory);
    if (!decision || &decision->rule() != &grant.rule()) return std::nullopt;
    const policy::Decision made = context.services.policy.decide(context.peer, {Operation::mkdir}, directory);
    if (!made && made.error().denied_by != nullptr) return std::nullopt;
    return *decision;
}

std::optional<Obstacle> refuse_new_file(const OperationContext& context, const policy::Grant& grant,
                                        const ResolvedParent& parent, std::uint64_t size) {
    const ObjectStatus status{.type = FileType::regular,
                              .links = 1,
                              .size = size,
                              .owner = owner_of_new(context, grant),
                              .directory_owner = parent.directory().owner,
                              .crossed_mount = parent.crossed_mount()};
    return context.services.inspector.refuse(status, grant, context.uid());
}

std::optional<Obstacle> refuse_new_name(const OperationContext& context, const policy::Grant& grant,
                                        const ResolvedParent& parent, FileType type) {
    const ObjectStatus status{.type = type,
                              .owner = owner_of_new(context, grant),
                              .directory_owner = parent.directory().owner,
                              .crossed_mount = parent.crossed_mount()};
    return context.services.inspector.refuse(status, grant, context.uid(), Demand::name);
}

Attempt<void> apply_ownership(BorrowedFd file, const NewObject& object) {
    struct stat status;
    if (::syscall(SYS_fstat, file.number(), &status) != 0) return call_failed(Step::deliver);
    // A set-group-ID directory hands its bit on; a server may not heed the mode. Before the owner: afterwards it would take
    // CAP_FOWNER.
    constexpr mode_t all_bits = 07777, permissions = 0777;
    if ((status.st_mode & all_bits & ~object.mode) != 0 &&
        ::fchmod(file.number(), status.st_mode & object.mode & permissions) != 0)
        return call_failed(Step::deliver);
    if (status.st_uid == object.owner && status.st_gid == object.group) return {};
    if (::fchown(file.number(), object.owner, object.group) != 0) return cannot_be_given();
    return {};
}

Attempt<void> apply_mode(BorrowedFd file, const ResolvedParent& parent, const NewObject& object) {
    const auto like = open_unnamed(parent, O_WRONLY, object.mode);
    if (!like) return std::unexpected(like.error());
    struct stat status;
    if (::syscall(SYS_fstat, like->number(), &status) != 0) return call_failed(Step::deliver);
    if (::fchmod(file.number(), status.st_mode & object.mode) != 0) return call_failed(Step::deliver);
    return {};
}

Attempt<UniqueFd> open_unnamed(const ResolvedParent& parent, std::uint64_t flags, mode_t mode) {
    UniqueFd file(kernel::openat2(parent.descriptor().number(), ".", flags | O_TMPFILE | O_CLOEXEC,
                                  no_links_followed, mode));
    if (!file) return call_failed(Step::resolve, has_no_unnamed_files(errno) ? ENOTSUP : errno);
    return file;
}

Attempt<void> link_unnamed(BorrowedFd file, const ResolvedParent& parent, const char* name) {
    if (::linkat(file.number(), kernel::no_path, parent.descriptor().number(), name, AT_EMPTY_PATH) != 0)
        return call_failed(Step::resolve);
    return {};
}

Attempt<UniqueFd> create_file(const OperationContext& context, const policy::Grant& grant,
                              const ResolvedParent& parent, std::uint64_t flags) {
    if (const auto obstacle = refuse_new_file(context, grant, parent, 0)) return std::unexpected(*obstacle);
    const auto object = new_object(context, grant, parent, FileType::regular);
    if (!object) return std::unexpected(object.error());
    auto file = open_unnamed(parent, flags, object->mode);
    if (!file && file.error().errno_value == ENOTSUP) return create_in_place(parent, *object, flags);
    if (!file) return file;
    if (auto owned = apply_ownership(file->borrow(), *object); !owned) return std::unexpected(owned.error());
    const auto linked = link_unnamed(file->borrow(), parent, parent.name());
    if (linked) return file;
    // linkat(2): ENOENT without CAP_DAC_READ_SEARCH, whatever there is.
    if (linked.error().errno_value == ENOENT) return create_in_place(parent, *object, flags);
    return std::unexpected(linked.error());
}

Attempt<void> create_directory(const OperationContext& context, const policy::Grant& grant,
                               const ResolvedParent& parent) {
    if (const auto obstacle = refuse_new_name(context, grant, parent, FileType::directory))
        return std::unexpected(*obstacle);
    const auto object = new_object(context, grant, parent, FileType::directory);
    if (!object) return std::unexpected(object.error());
    return make_whole(parent,
                      [&](std::string name) { return make_directory_as(parent, *object, std::move(name)); });
}

Attempt<void> create_link(const OperationContext& context, const policy::Grant& grant,
                          const ResolvedParent& parent, const char* target) {
    if (const auto obstacle = refuse_new_name(context, grant, parent, FileType::symlink))
        return std::unexpected(*obstacle);
    const auto object = new_object(context, grant, parent, FileType::symlink);
    if (!object) return std::unexpected(object.error());
    return make_whole(
        parent, [&](std::string name) { return make_link_as(parent, *object, target, std::move(name)); });
}

Attempt<ResolvedParent> parent_of_new(const OperationContext& context, const policy::Grant& grant) {
    auto parent = context.services.resolver.resolve_parent(grant);
    if (!parent && parent.error().errno_value == ENOENT && grant.rule().create.parents) {
        if (auto made = make_parents(context, grant); !made) return std::unexpected(made.error());
        parent = context.services.resolver.resolve_parent(grant);
    }
    context.services.metrics.done(Step::resolve);
    return parent;
}

}  // namespace fdbroker::opener
