// SPDX-License-Identifier: MIT
#include "opener/resolve/resolver.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

// No link of any kind is followed, and a RequestPath has no `..`, so that a walk can only go down: RESOLVE_BENEATH would
// have nothing to refuse, and costs a look at every directory above the file.
constexpr std::uint64_t always = no_links_followed;

UniqueFd open_beneath(BorrowedFd directory, const char* relative, std::uint64_t flags,
                      std::uint64_t resolve) {
    // With O_DIRECTORY beside it, O_NOFOLLOW would call a link no directory (ENOTDIR) instead of a link (ELOOP).
    flags = (flags & O_DIRECTORY) != 0 ? flags & ~std::uint64_t{O_NOFOLLOW} : flags | O_NOFOLLOW;
    return UniqueFd(kernel::openat2(directory.number(), relative, flags | O_CLOEXEC, always | resolve));
}

UniqueFd open_anywhere(BorrowedFd directory, const char* relative, std::uint64_t flags, bool& crossed_mount) {
    UniqueFd fd = open_beneath(directory, relative, flags, RESOLVE_NO_XDEV);
    if (fd || errno != EXDEV) return fd;
    crossed_mount = true;
    return open_beneath(directory, relative, flags, 0);
}

// The kernel has told the holder of the lease to let go (fcntl(2), F_SETLEASE), and nothing tells when it has. To open
// without O_NONBLOCK would tell, but that waits for the other end of a FIFO as well, should one stand there by now.
constexpr int ask_again_after_ms = 10;

UniqueFd open_in_helper(BorrowedFd directory, const char* relative, std::uint64_t flags, bool& crossed_mount,
                        ExecutionContext::Deadline deadline) {
    for (;;) {
        UniqueFd fd = open_anywhere(directory, relative, flags, crossed_mount);
        if (fd || errno != EAGAIN) return fd;
        if (std::chrono::steady_clock::now() >= deadline) {
            errno = ETIMEDOUT;
            return fd;
        }
        ::poll(nullptr, 0, ask_again_after_ms);
    }
}

// Whether an open of what is there changes nothing and hands out nothing to change it with. A file that O_CREAT makes is
// there by then.
bool only_reads(const policy::Grant& grant, std::uint64_t flags) {
    constexpr policy::OperationSet done_before{policy::Operation::create};
    return (flags & O_ACCMODE) == O_RDONLY &&
           !(grant.operations() - done_before).intersects(policy::changing_operations);
}

// Where the walk to an object that is no device begins. The holder of a descriptor may open its file again through
// /proc/self/fd, with what access the file's mode has: the mount that the descriptor is on has the last word.
BorrowedFd start_for(const BoundDirectory& directory, const policy::Grant& grant, std::uint64_t flags) {
    if ((flags & O_PATH) == 0) {
        if (directory.read_only && only_reads(grant, flags)) return directory.read_only.borrow();
        if (directory.without_devices) return directory.without_devices.borrow();
    }
    return directory.fd.borrow();
}

std::unexpected<Obstacle> open_failed(int cause) {
    return std::unexpected(Obstacle{cause, explain_open_failure(cause)});
}

// The same of an open whose errno has a reason that only the type of the object tells.
std::unexpected<Obstacle> open_failed(int cause, BorrowedFd start, const char* relative, std::uint64_t flags,
                                      std::uint64_t resolve) {
    const bool wanted_directory = cause == ENOTDIR && (flags & O_DIRECTORY) != 0;
    if (cause != ENXIO && !wanted_directory) return open_failed(cause);
    const UniqueFd object = open_beneath(start, relative, O_PATH, resolve);
    struct stat status;
    if (!object || ::syscall(SYS_fstat, object.number(), &status) != 0) return open_failed(cause);
    if (wanted_directory && !S_ISDIR(status.st_mode))
        return std::unexpected(Obstacle{cause, "it is not a directory"});
    if (cause == ENXIO && S_ISFIFO(status.st_mode))
        return std::unexpected(Obstacle{cause, "it is a FIFO that nobody has open for reading"});
    return open_failed(cause);
}

// Where a walk begins: in the rule's directory.
struct Walk {
    BorrowedFd from;
    const char* relative = nullptr;
    RuleDirectory directory{};
    UniqueFd inner{};  // `from`, where that one is not bound itself
};

// `on` is the bound directory, on the mount that the walk is to be on.
Attempt<Walk> begin_walk(const DirectoryTable::Found& found, NameCheck check, BorrowedFd on, bool may_block) {
    const BoundDirectory& bound = *found.directory;
    if (found.inner.empty()) return Walk{on, found.relative, {bound.owner, bound.device, check}, {}};
    const std::string inner(found.inner);
    constexpr std::uint64_t flags = O_PATH | O_DIRECTORY;
    bool crossed_mount = false;  // the rule's directory may well be a mount itself
    UniqueFd fd = may_block ? open_anywhere(on, inner.c_str(), flags, crossed_mount)
                            : open_beneath(on, inner.c_str(), flags, RESOLVE_NO_XDEV | RESOLVE_CACHED);
    if (!fd && !may_block && (errno == EAGAIN || errno == EXDEV)) return std::unexpected(only_in_a_helper);
    struct stat status;
    if (!fd || ::syscall(SYS_fstat, fd.number(), &status) != 0) return open_failed(errno);
    const BorrowedFd from = fd.borrow();
    if (asks_for_names(check, crossed_mount)) check = NameCheck::always;
    return Walk{from, found.relative_to_inner, {status.st_uid, status.st_dev, check}, std::move(fd)};
}

bool is_link(const UniqueFd& fd) {
    struct stat status;
    return ::syscall(SYS_fstat, fd.number(), &status) == 0 && S_ISLNK(status.st_mode);
}

bool is_in_procfs(const UniqueFd& fd) {
    struct statfs filesystem;
    return ::fstatfs(fd.number(), &filesystem) != 0 || filesystem.f_type == PROC_SUPER_MAGIC;
}

}  // namespace

Resolver::Resolver(std::vector<BoundDirectory> directories, const policy::Policy& policy,
                   const KnownMounts* mounts)
    : table_(std::move(directories)),
      name_checks_(name_checks_of(table_.directories(), policy)),
      mounts_(mounts) {}

// Else something would be made in a directory that is mounted over, or written to where writing is forbidden by now.
std::optional<Obstacle> Resolver::refuse_other_mounts(const policy::Grant& grant) const {
    if (mounts_ == nullptr || !grant.operations().intersects(policy::changing_operations) ||
        mounts_->hold_on_way_to(grant.path().text()))
        return std::nullopt;
    return Obstacle{EAGAIN, "a mount on its way has changed, and the opener is about to follow: ask again"};
}

Attempt<DirectoryTable::Found> Resolver::start_of(const policy::Grant& grant) const {
    const DirectoryTable::Found found = table_.find(grant.path().text());
    // A rule that grants names a directory literally, so one is found unless the private root is at odds with the policy.
    if (found.directory == nullptr)
        return std::unexpected(Obstacle{ENOENT, "no directory of a rule leads to it"});
    if (found.directory->errno_value != 0) {
        const int why = found.directory->errno_value;
        if (!found.directory->refusal.empty())
            return std::unexpected(Obstacle{why, found.directory->refusal.c_str()});
        return std::unexpected(Obstacle{
            why, why == ETIMEDOUT ? "the rule's directory did not answer when the policy was loaded"
                                  : "the rule's directory was not there when the policy was loaded"});
    }
    return found;
}

Attempt<ResolvedFile> Resolver::open_found(const DirectoryTable::Found& found, std::uint64_t flags,
                                           const ExecutionContext& execution, BorrowedFd start) const {
    const BoundDirectory& bound = *found.directory;
    const NameCheck check = name_check_of(bound);
    if (!execution.may_block() && (!bound.local || check == NameCheck::always))
        return std::unexpected(only_in_a_helper);
    const auto walk = begin_walk(found, check, start, execution.may_block());
    if (!walk) return std::unexpected(walk.error());
    bool crossed_mount = false;
    UniqueFd fd;
    if (execution.may_block()) {
        fd = open_in_helper(walk->from, walk->relative, flags, crossed_mount, execution.deadline());
    } else {
        // A walk in the cache of one local mount cannot block: no disk, no network, no FUSE server is asked.
        fd = open_beneath(walk->from, walk->relative, flags, RESOLVE_NO_XDEV | RESOLVE_CACHED);
        // Not in the cache, or held by a lease; on another mount.
        if (!fd && (errno == EAGAIN || errno == EXDEV)) return std::unexpected(only_in_a_helper);
    }
    if (!fd) {
        const std::uint64_t resolve = execution.may_block() ? 0 : RESOLVE_NO_XDEV | RESOLVE_CACHED;
        return open_failed(errno, walk->from, walk->relative, flags, resolve);
    }
    if (asks_for_names(walk->directory.name_check, crossed_mount))
        if (const auto obstacle = refuse_alias(bound.fd.borrow(), found.relative, fd.borrow()))
            return std::unexpected(*obstacle);
    return ResolvedFile(std::move(fd), crossed_mount, walk->directory);
}

// Opening a device has the driver do something. An object that takes the name before the open is no device at all
// where a mount without devices was to be had.
Attempt<ResolvedFile> Resolver::open_past_devices(const DirectoryTable::Found& found,
                                                  const policy::Grant& grant, std::uint64_t flags,
                                                  const ExecutionContext& execution) const {
    const BoundDirectory& directory = *found.directory;
    const auto looked = open_found(found, O_PATH, execution, directory.fd.borrow());
    if (!looked) return std::unexpected(looked.error());
    struct stat status;
    if (::syscall(SYS_fstat, looked->fd_.number(), &status) != 0) return open_failed(errno);
    if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode))
        return open_found(found, flags, execution, start_for(directory, grant, flags));
    const policy::FileType type = type_of(status.st_mode);
    for (const policy::Rule* rule : grant.rules())
        if (!rule->files.allows(type)) return std::unexpected(refused_type(type));
    // A driver may take its time.
    if (!execution.may_block()) return std::unexpected(only_in_a_helper);
    return open_found(found, flags, execution, directory.fd.borrow());
}

Attempt<ResolvedFile> Resolver::resolve(const policy::Grant& grant, std::uint64_t flags,
                                        const ExecutionContext& execution) const {
    const auto found = start_of(grant);
    if (!found) return std::unexpected(found.error());
    if (execution.may_block())
        if (const auto obstacle = refuse_other_mounts(grant)) return std::unexpected(*obstacle);
    const BoundDirectory& directory = *found->directory;
    return directory.opens_devices && (flags & O_PATH) == 0
               ? open_past_devices(*found, grant, flags, execution)
               : open_found(*found, flags, execution, start_for(directory, grant, flags));
}

Attempt<ResolvedParent> Resolver::resolve_parent(const policy::Grant& grant) const {
    const auto found = start_of(grant);
    if (!found) return std::unexpected(found.error());
    if (const auto obstacle = refuse_other_mounts(grant)) return std::unexpected(*obstacle);
    const auto walk =
        begin_walk(*found, name_check_of(*found->directory), found->directory->fd.borrow(), true);
    if (!walk) return std::unexpected(walk.error());
    const std::string relative = walk->relative;
    if (relative == ".") return std::unexpected(Obstacle{EBUSY, "it is the rule's own directory"});
    const std::size_t slash = relative.rfind('/');
    const std::string above = slash == std::string::npos ? "." : relative.substr(0, slash);
    bool crossed_mount = false;
    UniqueFd fd = open_anywhere(walk->from, above.c_str(), O_PATH | O_DIRECTORY, crossed_mount);
    if (!fd) return open_failed(errno);
    // procfs and sysfs have no names to give.
    if (crossed_mount)
        if (const auto obstacle = refuse_kernel_filesystem(fd.borrow())) return std::unexpected(*obstacle);
    std::string name = relative.substr(slash + 1);
    if (asks_for_names(walk->directory.name_check, crossed_mount)) {
        if (const auto obstacle = refuse_alias(walk->from, above, fd.borrow()))
            return std::unexpected(*obstacle);
        if (const auto obstacle = refuse_new_alias(fd.borrow(), name)) return std::unexpected(*obstacle);
    }
    return ResolvedParent(std::move(fd), std::move(name), crossed_mount, walk->directory);
}

Attempt<ResolvedFile> Resolver::resolve_in(const ResolvedParent& parent, std::uint64_t flags) const {
    bool crossed_mount = parent.crossed_mount_;
    UniqueFd fd = open_anywhere(parent.descriptor(), parent.name(), flags, crossed_mount);
    if (!fd) return open_failed(errno);
    if (asks_for_names(parent.directory_.name_check, crossed_mount))
        if (const auto obstacle = refuse_alias(parent.descriptor(), parent.name(), fd.borrow()))
            return std::unexpected(*obstacle);
    return ResolvedFile(std::move(fd), crossed_mount, parent.directory_);
}

std::optional<FoundLink> Resolver::find_link(const policy::Grant& grant,
                                             const ExecutionContext& execution) const {
    const auto found = start_of(grant);
    if (!found || (!execution.may_block() && !found->directory->local)) return std::nullopt;
    const std::string relative = found->relative;
    const std::string_view path = grant.path().text();
    for (std::size_t end = relative.find('/');; end = relative.find('/', end + 1)) {
        const bool last = end == std::string::npos;
        const std::string prefix = relative.substr(0, end);
        const UniqueFd fd = open_beneath(found->directory->fd.borrow(), prefix.c_str(), O_PATH,
                                         execution.may_block() ? 0 : RESOLVE_NO_XDEV | RESOLVE_CACHED);
        if (!fd) return std::nullopt;
        if (is_link(fd)) {
            // Where links are met, other mounts may have been: what is asked of them is asked here of all.
            if (name_check_of(*found->directory) != NameCheck::never && execution.may_block() &&
                refuse_alias(found->directory->fd.borrow(), prefix, fd.borrow()))
                return std::nullopt;
            std::array<char, PATH_MAX> target;
            const ssize_t size = ::readlinkat(fd.number(), "", target.data(), target.size());
            if (size <= 0 || static_cast<std::size_t>(size) == target.size()) return std::nullopt;
            return FoundLink{
                .path = std::string(path.substr(0, path.size() - relative.size() + prefix.size())),
                .target = std::string(target.data(), static_cast<std::size_t>(size)),
                .magic = is_in_procfs(fd)};
        }
        if (last) return std::nullopt;
    }
}

Attempt<ObjectStatus> Inspector::status_of(const ResolvedFile& file) {
    struct stat status;
    // By its own number: glibc's fstat(3) is newfstatat(2), which the filter allows on a condition and so more slowly.
    if (::syscall(SYS_fstat, file.fd_.number(), &status) != 0)
        return std::unexpected(Obstacle{errno, "its status cannot be read", Step::inspect});
    return ObjectStatus{.type = type_of(status.st_mode),
                        .links = status.st_nlink,
                        .size = static_cast<std::uint64_t>(status.st_size),
                        .owner = status.st_uid,
                        .directory_owner = file.directory_.owner,
                        .crossed_mount = file.crossed_mount_,
                        .device = status.st_dev,
                        .inode = status.st_ino};
}

Attempt<InspectedFile> Inspector::inspect(ResolvedFile file, const policy::Grant& grant,
                                          std::uint32_t peer_uid, Demand demand) const {
    const auto object = status_of(file);
    if (!object) return std::unexpected(object.error());
    if (const auto obstacle = refuse(*object, grant, peer_uid, demand)) return std::unexpected(*obstacle);
    if (file.crossed_mount_ && object->device != file.directory_.device)
        if (const auto obstacle = refuse_kernel_filesystem(file.fd_.borrow()))
            return std::unexpected(obstacle->at(Step::inspect));
    return InspectedFile(std::move(file.fd_), *object);
}

std::optional<Obstacle> Inspector::refuse(const ObjectStatus& object, const policy::Grant& grant,
                                          std::uint32_t peer_uid, Demand demand) const {
    for (const policy::Rule* rule : grant.rules())
        if (const auto obstacle = hold_against(object, *rule, demand, protection_, peer_uid))
            return obstacle->at(Step::inspect);
    return std::nullopt;
}

Attempt<DeliverableFile> Inspector::deliver(InspectedFile file, OpenFlags flags) {
    // O_NONBLOCK was the broker's safety, not the peer's wish.
    if (!flags.wants_nonblock() &&
        ::fcntl(file.fd_.number(), F_SETFL, flags.for_openat2() & ~std::uint64_t{O_NONBLOCK}) != 0) {
        return std::unexpected(Obstacle{errno, "its flags cannot be set", Step::inspect});
    }
    return DeliverableFile(std::move(file.fd_));
}

}  // namespace fdbroker::opener
