#include "opener/resolver.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::UniqueFd;

namespace {

// No link of any kind is followed, and a RequestPath has no `..`, so that a walk can only go down: RESOLVE_BENEATH would
// have nothing to refuse, and costs a look at every directory above the file.
constexpr std::uint64_t always = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

UniqueFd open_beneath(const DirectoryTable::Found& found, std::uint64_t flags, std::uint64_t resolve) {
    open_how how{};
    how.flags = flags;
    how.resolve = resolve;
    // No wrapper in glibc before 2.42.
    return UniqueFd(static_cast<int>(
        ::syscall(SYS_openat2, found.directory->fd.number(), found.relative, &how, sizeof how)));
}

UniqueFd open_anywhere(const DirectoryTable::Found& found, std::uint64_t flags, bool& crossed_mount) {
    UniqueFd fd = open_beneath(found, flags, always | RESOLVE_NO_XDEV);
    crossed_mount = !fd && errno == EXDEV;
    if (crossed_mount) fd = open_beneath(found, flags, always);
    return fd;
}

}  // namespace

Attempt<ResolvedFile> Resolver::resolve(const policy::Grant& grant, OpenFlags flags,
                                        const Place& place) const {
    const DirectoryTable::Found found = table_.find(grant.path().text());
    // A rule that grants names a directory literally, so one is found unless the private root is at odds with the policy.
    if (found.directory == nullptr)
        return std::unexpected(Obstacle{ENOENT, "no directory of a rule leads to it"});
    if (found.directory->errno_value != 0) {
        return std::unexpected(Obstacle{found.directory->errno_value,
                                        "the rule's directory was not there when the policy was loaded"});
    }

    bool crossed_mount = false;
    UniqueFd fd;
    if (place.may_block()) {
        fd = open_anywhere(found, flags.for_openat2(), crossed_mount);
    } else {
        if (!found.directory->local) return std::unexpected(only_in_a_helper);
        // What is in the cache of one local mount cannot block: no disk, no network, no FUSE server is asked.
        fd = open_beneath(found, flags.for_openat2(), always | RESOLVE_NO_XDEV | RESOLVE_CACHED);
        // Not in the cache, or held by a lease; on another mount.
        if (!fd && (errno == EAGAIN || errno == EXDEV)) return std::unexpected(only_in_a_helper);
    }
    if (!fd) {
        const int cause = errno;
        return std::unexpected(Obstacle{cause, explain_open_failure(cause)});
    }
    return ResolvedFile(std::move(fd), crossed_mount, *found.directory);
}

Attempt<DeliverableFile> Inspector::inspect(ResolvedFile file, const policy::Grant& grant, OpenFlags flags,
                                            std::uint32_t peer_uid) const {
    struct stat status;
    // By its own number: glibc's fstat(3) is newfstatat(2), which the filter allows on a condition and so more slowly.
    if (::syscall(SYS_fstat, file.fd_.number(), &status) != 0)
        return std::unexpected(Obstacle{errno, "its status cannot be read"});

    const ObjectStatus object{.type = type_of(status.st_mode),
                              .links = status.st_nlink,
                              .size = static_cast<std::uint64_t>(status.st_size),
                              .owner = status.st_uid,
                              .directory_owner = file.directory_->owner,
                              .crossed_mount = file.crossed_mount_};
    for (const policy::Rule* rule : grant.rules())
        if (const auto obstacle = hold_against(object, *rule, protection_, peer_uid))
            return std::unexpected(*obstacle);
    if (file.crossed_mount_ && status.st_dev != file.directory_->device)
        if (const auto obstacle = refuse_kernel_filesystem(file.fd_.borrow()))
            return std::unexpected(*obstacle);

    // O_NONBLOCK was the broker's safety, not the peer's wish.
    if (!flags.wants_nonblock() &&
        ::fcntl(file.fd_.number(), F_SETFL, flags.for_openat2() & ~std::uint64_t{O_NONBLOCK}) != 0) {
        return std::unexpected(Obstacle{errno, "its flags cannot be set"});
    }
    return DeliverableFile(std::move(file.fd_));
}

}  // namespace fdbroker::opener
