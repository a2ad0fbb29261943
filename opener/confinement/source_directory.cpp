// SPDX-License-Identifier: MIT
#include "opener/confinement/source_directory.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "opener/confinement/kernel_calls.hpp"

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
    return source;
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
