#include "opener/operations/names.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "opener/confinement/kernel_calls.hpp"
#include "policy/request_path.hpp"

namespace fdbroker::opener {

using policy::FileType;
using policy::Operation;
using policy::OperationSet;
using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

constexpr std::uint64_t no_links = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

// The descriptor is of something that this process has just made and that nobody else can have opened for writing yet.
Done<void> dress(BorrowedFd file, const NewObject& object) {
    // Before the owner: afterwards it would take CAP_FOWNER. A default ACL of the directory may have changed the mode.
    if (::fchmod(file.number(), object.mode) != 0) return call_failed(Step::deliver);
    struct stat status;
    if (::syscall(SYS_fstat, file.number(), &status) != 0) return call_failed(Step::deliver);
    if (status.st_uid == object.owner && status.st_gid == object.group) return {};
    if (::fchown(file.number(), object.owner, object.group) != 0)
        return stop_at(Step::deliver, {errno, "the opener cannot give it to its owner"});
    return {};
}

// Where a filesystem has no unnamed files, or who runs the opener may not give one a name: the file is there before it
// has its owner, but nobody else may open it until then.
Done<UniqueFd> create_in_place(const ResolvedParent& parent, const NewObject& object, std::uint64_t flags) {
    UniqueFd file(kernel::openat2(parent.descriptor().number(), parent.name(),
                                  flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, no_links, 0600));
    if (!file) return call_failed(Step::resolve);
    if (auto dressed = dress(file.borrow(), object); !dressed) {
        ::unlinkat(parent.descriptor().number(), parent.name(), 0);
        return std::unexpected(dressed.error());
    }
    return file;
}

bool has_no_unnamed_files(int errno_value) noexcept {
    // open(2), O_TMPFILE: EOPNOTSUPP, or EISDIR and ENOENT from kernels and filesystems that do not know it.
    return errno_value == EOPNOTSUPP || errno_value == EISDIR || errno_value == ENOENT;
}

// A grant for a directory above the path, when the rule that leads governs that as well and nothing forbids to make it.
std::optional<policy::Grant> grant_of_parent(const Work& work, const policy::Grant& grant,
                                             policy::RequestPath directory) {
    constexpr OperationSet making{Operation::create, Operation::mkdir, Operation::symlink};
    const policy::Decision decision =
        work.tools.policy.decide(work.peer, grant.operations() & making, directory);
    if (!decision || &decision->rule() != &grant.rule()) return std::nullopt;
    const policy::Decision made = work.tools.policy.decide(work.peer, {Operation::mkdir}, directory);
    if (!made && made.error().denied_by != nullptr) return std::nullopt;
    return *decision;
}

// Makes what is missing of the directories above the last name.
Done<void> make_parents(const Work& work, const policy::Grant& grant) {
    const std::string path(grant.path().text());
    for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
        const std::string above = path.substr(0, end);
        const auto parsed = policy::RequestPath::parse(above);
        const auto granted = parsed ? grant_of_parent(work, grant, *parsed) : std::nullopt;
        if (!granted) continue;
        const auto there = work.tools.resolver.resolve(*granted, O_PATH | O_DIRECTORY, work.place);
        if (there) continue;
        if (there.error().errno_value != ENOENT) return stop_at(Step::resolve, there.error());
        const auto parent = work.tools.resolver.resolve_parent(*granted);
        if (!parent) return stop_at(Step::resolve, parent.error());
        const auto made = create_directory(work, grant.rule(), parent->descriptor(), parent->name());
        if (!made && made.error().errno_value != EEXIST) return made;
    }
    return {};
}

}  // namespace

NewObject new_object(const policy::Rule& rule, const policy::Peer& peer, FileType type) noexcept {
    const policy::Creation& create = rule.create;
    return {.mode = type == FileType::directory ? create.directory_mode() : create.mode,
            .owner = create.owner.value_or(peer.identity().uid),
            .group = create.group.value_or(peer.identity().gid)};
}

Done<std::string> temporary_name() {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) return call_failed(Step::resolve);
    return fmt::format(".fdbroker-{:016x}", number);
}

Done<UniqueFd> make_unnamed(const ResolvedParent& parent, const NewObject& object, std::uint64_t flags) {
    UniqueFd file(
        kernel::openat2(parent.descriptor().number(), ".", flags | O_TMPFILE | O_CLOEXEC, no_links, 0600));
    if (!file) return call_failed(Step::resolve, has_no_unnamed_files(errno) ? ENOTSUP : errno);
    if (auto dressed = dress(file.borrow(), object); !dressed) return std::unexpected(dressed.error());
    return file;
}

Done<void> link_unnamed(BorrowedFd file, const ResolvedParent& parent, const char* name) {
    if (::linkat(file.number(), "", parent.descriptor().number(), name, AT_EMPTY_PATH) != 0)
        return call_failed(Step::resolve);
    return {};
}

Done<UniqueFd> create_file(const Work& work, const policy::Grant& grant, const ResolvedParent& parent,
                           std::uint64_t flags) {
    const NewObject object = new_object(grant.rule(), work.peer, FileType::regular);
    const ObjectStatus status{.type = FileType::regular,
                              .links = 1,
                              .size = 0,
                              .owner = object.owner,
                              .directory_owner = parent.directory().owner,
                              .crossed_mount = parent.crossed_mount()};
    if (const auto obstacle = work.tools.inspector.refuse(status, grant, work.uid()))
        return stop_at(Step::inspect, *obstacle);
    auto file = make_unnamed(parent, object, flags);
    if (!file && file.error().errno_value == ENOTSUP) return create_in_place(parent, object, flags);
    if (!file) return file;
    const auto linked = link_unnamed(file->borrow(), parent, parent.name());
    if (linked) return file;
    // linkat(2): ENOENT without CAP_DAC_READ_SEARCH, whatever there is.
    if (linked.error().errno_value == ENOENT) return create_in_place(parent, object, flags);
    return std::unexpected(linked.error());
}

Done<void> create_directory(const Work& work, const policy::Rule& rule, BorrowedFd parent, const char* name) {
    // Under another name until it is whole. mkdir(2) has no descriptor to give, so that somebody who may write to the
    // parent could have put another directory there: what is not ours is never given away.
    const auto unused = temporary_name();
    if (!unused) return std::unexpected(unused.error());
    const std::string& temporary = *unused;
    if (::mkdirat(parent.number(), temporary.c_str(), 0700) != 0) return call_failed(Step::resolve);
    const auto undo = [&](const std::unexpected<Stop>& why) -> Done<void> {
        ::unlinkat(parent.number(), temporary.c_str(), AT_REMOVEDIR);
        return why;
    };
    const UniqueFd made(kernel::openat2(parent.number(), temporary.c_str(),
                                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                                        no_links | RESOLVE_NO_XDEV));
    if (!made) return undo(call_failed(Step::resolve));
    struct stat status;
    if (::syscall(SYS_fstat, made.number(), &status) != 0) return undo(call_failed(Step::inspect));
    if (status.st_uid != ::geteuid() || (status.st_mode & 0077) != 0)
        return stop_at(Step::inspect, {EAGAIN, "another directory took its place"});
    if (auto dressed = dress(made.borrow(), new_object(rule, work.peer, FileType::directory)); !dressed)
        return undo(std::unexpected(dressed.error()));
    if (::syscall(SYS_renameat2, parent.number(), temporary.c_str(), parent.number(), name,
                  RENAME_NOREPLACE) != 0)
        return undo(call_failed(Step::resolve));
    return {};
}

Done<ResolvedParent> parent_of_new(const Work& work, const policy::Grant& grant) {
    auto parent = work.tools.resolver.resolve_parent(grant);
    if (!parent && parent.error().errno_value == ENOENT && grant.rule().create.parents) {
        if (auto made = make_parents(work, grant); !made) return std::unexpected(made.error());
        parent = work.tools.resolver.resolve_parent(grant);
    }
    work.tools.metrics.done(Step::resolve);
    if (!parent) return stop_at(Step::resolve, parent.error());
    return std::move(*parent);
}

}  // namespace fdbroker::opener
