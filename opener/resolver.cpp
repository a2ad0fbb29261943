#include "opener/resolver.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>

namespace fdbroker::opener {

using policy::FileType;
using policy::Operation;
using policy::OperationSet;
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

FileType type_of(mode_t mode) noexcept {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return FileType::regular;
        case S_IFDIR:
            return FileType::directory;
        case S_IFIFO:
            return FileType::fifo;
        case S_IFCHR:
            return FileType::character_device;
        case S_IFBLK:
            return FileType::block_device;
        case S_IFLNK:
            return FileType::symlink;
        default:
            return FileType::socket;
    }
}

const char* refused_type(FileType type) noexcept {
    switch (type) {
        case FileType::regular:
            return "it is a regular file, which the rule's types do not have";
        case FileType::directory:
            return "it is a directory, which the rule's types do not have";
        case FileType::fifo:
            return "it is a FIFO, which the rule's types do not have";
        case FileType::socket:
            return "it is a socket, which the rule's types do not have";
        case FileType::character_device:
        case FileType::block_device:
            return "it is a device, which the rule's types do not have";
        case FileType::symlink:
            return "it is a symbolic link";
    }
    return "";
}

constexpr OperationSet writing{Operation::write, Operation::append, Operation::truncate, Operation::create};

}  // namespace

const char* explain_open_failure(int errno_value) noexcept {
    switch (errno_value) {
        case ELOOP:
            return "a symbolic link is on the way";
        case ENOENT:
            return "it does not exist";
        case ENOTDIR:
            return "a component on the way is not a directory";
        case EAGAIN:
            return "another process holds a lease on it";
        case EACCES:
        case EPERM:
            return "the opener itself may not open it";
        case ENXIO:
        case ENODEV:
            return "it is a device or a socket that cannot be opened";
        case EMFILE:
        case ENFILE:
            return "the opener has no descriptor left";
        default:
            return "the kernel refused";
    }
}

Attempt<ResolvedFile> Resolver::resolve(const policy::Grant& grant, OpenFlags flags) const {
    const DirectoryTable::Found found = table_.find(grant.path().text());
    // A rule that grants names a directory literally, so one is found unless the private root is at odds with the policy.
    if (found.directory == nullptr)
        return std::unexpected(Obstacle{ENOENT, "no directory of a rule leads to it"});
    if (found.directory->errno_value != 0) {
        return std::unexpected(Obstacle{found.directory->errno_value,
                                        "the rule's directory was not there when the policy was loaded"});
    }

    const std::uint64_t how = flags.for_openat2();
    bool crossed_mount = false;
    // What is in the cache of one local mount cannot block: no disk, no network, no FUSE server is asked.
    UniqueFd fd = open_beneath(found, how, always | RESOLVE_NO_XDEV | RESOLVE_CACHED);
    if (!fd && errno == EAGAIN) fd = open_beneath(found, how, always | RESOLVE_NO_XDEV);
    if (!fd && errno == EXDEV) {
        crossed_mount = true;
        fd = open_beneath(found, how, always);
    }
    if (!fd) {
        const int cause = errno;
        return std::unexpected(Obstacle{cause, explain_open_failure(cause)});
    }
    return ResolvedFile(std::move(fd), crossed_mount, *found.directory);
}

Attempt<DeliverableFile> Inspector::inspect(ResolvedFile file, const policy::Grant& grant, OpenFlags flags,
                                            std::uint32_t peer_uid) const {
    const auto refuse = [](int errno_value, const char* text) {
        return std::unexpected(Obstacle{errno_value, text});
    };
    struct stat status;
    // By its own number: glibc's fstat(3) is newfstatat(2), which the filter allows on a condition and so more slowly.
    if (::syscall(SYS_fstat, file.fd_.number(), &status) != 0)
        return refuse(errno, "its status cannot be read");

    const FileType type = type_of(status.st_mode);
    for (const policy::Rule* rule : grant.rules()) {
        const policy::FileConditions& files = rule->files;
        if (!files.allows(type))
            return refuse(type == FileType::directory ? EISDIR : EACCES, refused_type(type));
        if (type == FileType::regular) {
            const bool links_are_safe =
                protection_.hardlinks && file.directory_->owner == 0 && !rule->operations.intersects(writing);
            const std::uint64_t most = files.max_links.value_or(links_are_safe ? policy::any_links : 1);
            if (status.st_nlink > most) return refuse(EACCES, "it has more links than the rule's max_links");
            if (files.max_size && static_cast<std::uint64_t>(status.st_size) > *files.max_size) {
                return refuse(EFBIG, "it is larger than the rule's max_size");
            }
        }
        const bool any_owner = files.owners.empty() && !files.peer_owns;
        if (!any_owner && !(files.peer_owns && status.st_uid == peer_uid) &&
            std::ranges::find(files.owners, status.st_uid) == files.owners.end()) {
            return refuse(EACCES, "its owner is not among the rule's owners");
        }
        if (files.same_mount && file.crossed_mount_) return refuse(EXDEV, "it lies on another mount");
    }

    if (file.crossed_mount_ && status.st_dev != file.directory_->device) {
        struct statfs filesystem;
        if (::fstatfs(file.fd_.number(), &filesystem) != 0)
            return refuse(errno, "its filesystem cannot be told");
        // procfs answers for the process that opens: /proc/self would be the broker.
        if (filesystem.f_type == PROC_SUPER_MAGIC || filesystem.f_type == SYSFS_MAGIC) {
            return refuse(EACCES, "it lies in procfs or sysfs, which no rule names literally");
        }
    }

    // O_NONBLOCK was the broker's safety, not the peer's wish.
    if (!flags.wants_nonblock() &&
        ::fcntl(file.fd_.number(), F_SETFL, flags.for_openat2() & ~std::uint64_t{O_NONBLOCK}) != 0) {
        return refuse(errno, "its flags cannot be set");
    }
    return DeliverableFile(std::move(file.fd_));
}

}  // namespace fdbroker::opener
