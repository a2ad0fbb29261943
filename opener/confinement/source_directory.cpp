// SPDX-License-Identifier: MIT
#include "opener/confinement/source_directory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <utility>

#include "opener/confinement/kernel_calls.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

namespace {

// Filesystems whose walk and open end in the memory or on a block device of this machine. Magic numbers of
// linux/magic.h, and of the filesystem's own header where that one has none. Not overlayfs: its layers may be
// anything.
constexpr std::array<std::uint32_t, 16> local_filesystems = {
    EXT4_SUPER_MAGIC,      // ext2 and ext3 have the same
    XFS_SUPER_MAGIC,       //
    BTRFS_SUPER_MAGIC,     //
    F2FS_SUPER_MAGIC,      //
    TMPFS_MAGIC,           // devtmpfs has the same
    RAMFS_MAGIC,           //
    SQUASHFS_MAGIC,        //
    EROFS_SUPER_MAGIC_V1,  //
    MSDOS_SUPER_MAGIC,     // vfat has the same
    EXFAT_SUPER_MAGIC,     //
    ISOFS_SUPER_MAGIC,     //
    UDF_SUPER_MAGIC,       //
    REISERFS_SUPER_MAGIC,  //
    0x3153464a,            // jfs (fs/jfs/jfs_superblock.h)
    0xca451a4e,            // bcachefs (fs/bcachefs/bcachefs_format.h)
    0x2fc12fc1,            // OpenZFS (include/sys/zfs_vfsops_os.h)
};

bool is_about_this_directory(int errno_value) noexcept {
    switch (errno_value) {
        case ENOENT:
        case ENOTDIR:
        case ELOOP:
        case EACCES:
        case ENAMETOOLONG:
        case EIO:       // a broken disk,
        case ESTALE:    // an NFS server that forgot,
        case ENOTCONN:  // a FUSE server that ended: no reason to serve nobody
            return true;
        default:
            return false;
    }
}

void find_link(proto::BorrowedFd root, const std::string& path, SourceDirectory& source) {
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const std::string prefix = path.substr(0, end);
        const proto::UniqueFd fd(
            kernel::openat2(root.number(), prefix.c_str() + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC,
                            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS));
        std::array<char, PATH_MAX> target;
        const ssize_t size = fd ? ::readlinkat(fd.number(), "", target.data(), target.size()) : -1;
        if (size > 0) {
            source.link = prefix;
            source.target.assign(target.data(), static_cast<std::size_t>(size));
            return;
        }
        if (!fd || end == std::string::npos) return;
    }
}

}  // namespace

proto::Result<SourceDirectory> open_source_directory(proto::BorrowedFd root, const std::string& path) {
    const std::string relative = path == "/" ? "." : path.substr(1);
    SourceDirectory source;
    source.fd =
        proto::UniqueFd(kernel::openat2(root.number(), relative.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC,
                                        RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS));
    if (source.fd) return source;
    if (!is_about_this_directory(errno)) return proto::system_error("openat2", path);
    source.errno_value = errno;
    if (source.errno_value == ELOOP) find_link(root, path, source);
    return source;
}

std::string explain_link(const std::string& path, const std::string& link, const std::string& target) {
    const std::filesystem::path above = std::filesystem::path(link).parent_path();
    const std::string leads_to = (above / target).lexically_normal();
    const std::string instead = std::filesystem::path(leads_to + path.substr(link.size())).lexically_normal();
    const auto shown = [](const std::string& text) {
        return proto::printable(text, proto::LineFeeds::escaped);
    };
    return fmt::format("{} is a symbolic link to {}: name {}/**; for rules that follow links, {} too",
                       shown(link), shown(leads_to), shown(instead), shown(link));
}

void take(BoundDirectory& directory, SourceDirectory source) {
    directory.fd = std::move(source.fd);
    directory.errno_value = source.errno_value;
    if (source.link.empty()) return;
    directory.why = explain_link(directory.path, source.link, source.target);
    directory.refusal = fmt::format(
        "\"{}\" is a symbolic link, through which its rule does not reach: the rule has to name where it "
        "leads",
        proto::printable(source.link, proto::LineFeeds::escaped));
}

proto::Result<void> inspect_directory(BoundDirectory& directory) {
    struct statx status{};
    if (::statx(directory.fd.number(), "", AT_EMPTY_PATH, STATX_INO | STATX_UID | STATX_MNT_ID, &status) !=
        0) {
        return proto::system_error("statx", directory.path);
    }
    directory.mount_id = status.stx_mnt_id;
    directory.device = ::makedev(status.stx_dev_major, status.stx_dev_minor);
    directory.inode = status.stx_ino;
    directory.owner = status.stx_uid;
    struct statfs filesystem{};
    if (::fstatfs(directory.fd.number(), &filesystem) != 0)
        return proto::system_error("fstatfs", directory.path);
    directory.local = std::ranges::find(local_filesystems, static_cast<std::uint32_t>(filesystem.f_type)) !=
                      local_filesystems.end();
    return {};
}

}  // namespace fdbroker::opener
