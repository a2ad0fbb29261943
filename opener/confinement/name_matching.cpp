// SPDX-License-Identifier: MIT
#include "opener/confinement/name_matching.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::opener {

namespace {

// Magic numbers of linux/magic.h, and of the filesystem's own header where that one has none.
constexpr std::array<std::uint32_t, 10> exact_filesystems = {
    BTRFS_SUPER_MAGIC, RAMFS_MAGIC,         SQUASHFS_MAGIC,     EROFS_SUPER_MAGIC_V1, UDF_SUPER_MAGIC,
    PROC_SUPER_MAGIC,  CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, REISERFS_SUPER_MAGIC, SYSFS_MAGIC,
};

constexpr std::array<std::uint32_t, 12> folding_filesystems = {
    MSDOS_SUPER_MAGIC,  // vfat has the same
    EXFAT_SUPER_MAGIC,
    ISOFS_SUPER_MAGIC,  // mount(8), "check=relaxed"
    0x5346544e,         // ntfs (fs/ntfs)
    0x7366746e,         // ntfs3 (fs/ntfs3)
    CIFS_SUPER_MAGIC,
    SMB2_SUPER_MAGIC,
    SMB_SUPER_MAGIC,
    0x4244,  // hfs (fs/hfs/hfs.h)
    0x482b,  // hfsplus (fs/hfsplus/hfsplus_raw.h)
    AFFS_SUPER_MAGIC,
    HPFS_SUPER_MAGIC,
};

// On these filesystems each directory has a flag.
constexpr std::array<std::uint32_t, 4> flagged_filesystems = {
    EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC,
    0xca451a4e,  // bcachefs (fs/bcachefs/bcachefs_format.h)
};

template <std::size_t Size>
bool is_one_of(const std::array<std::uint32_t, Size>& filesystems, std::uint32_t magic) noexcept {
    return std::ranges::find(filesystems, magic) != filesystems.end();
}

// ENOTTY, EOPNOTSUPP: the filesystem of this kernel has no flags, and so not this one.
NameMatching matching_by_flag(const proto::UniqueFd& directory) noexcept {
    int flags = 0;
    if (::ioctl(directory.number(), FS_IOC_GETFLAGS, &flags) != 0)
        return errno == ENOTTY || errno == EOPNOTSUPP ? NameMatching::exact : NameMatching::unknown;
    return (flags & FS_CASEFOLD_FL) != 0 ? NameMatching::folding : NameMatching::exact;
}

// xfs_fsop_geom_v1 of the kernel's xfs_fs.h.
struct XfsGeometry {
    std::array<std::uint32_t, 8> sizes;
    std::array<std::uint64_t, 4> blocks;
    std::array<unsigned char, 16> uuid;
    std::uint32_t unit, width;
    std::int32_t version;
    std::uint32_t flags;
    std::uint32_t log_sector_size, realtime_sector_size, directory_block_size;
};
constexpr unsigned long ioctl_geometry = _IOR('X', 100, XfsGeometry);
constexpr std::uint32_t case_insensitive_names = 1U << 12;  // XFS_FSOP_GEOM_FLAGS_DIRV2CI

NameMatching matching_of_xfs(const proto::UniqueFd& directory) noexcept {
    XfsGeometry geometry{};
    if (::ioctl(directory.number(), ioctl_geometry, &geometry) != 0) return NameMatching::unknown;
    return (geometry.flags & case_insensitive_names) != 0 ? NameMatching::folding : NameMatching::exact;
}

}  // namespace

NameMatching name_matching_of(proto::BorrowedFd directory) noexcept {
    struct statfs filesystem{};
    if (::fstatfs(directory.number(), &filesystem) != 0) return NameMatching::unknown;
    const auto magic = static_cast<std::uint32_t>(filesystem.f_type);
    if (is_one_of(exact_filesystems, magic)) return NameMatching::exact;
    if (is_one_of(folding_filesystems, magic)) return NameMatching::folding;
    const bool flagged = is_one_of(flagged_filesystems, magic);
    if (!flagged && magic != XFS_SUPER_MAGIC) return NameMatching::unknown;
    const proto::UniqueFd opened(kernel::openat2(
        directory.number(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, no_links_followed));
    if (!opened) return NameMatching::unknown;
    return flagged ? matching_by_flag(opened) : matching_of_xfs(opened);
}

std::string_view describe(NameMatching matching) noexcept {
    switch (matching) {
        case NameMatching::exact:
            return "its filesystem takes names byte by byte";
        case NameMatching::folding:
            return "its filesystem folds names: one object answers to several";
        case NameMatching::unknown:
            return "its filesystem may fold names (FUSE, network, layers, or one that is not known)";
    }
    return "";
}

}  // namespace fdbroker::opener
