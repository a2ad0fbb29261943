// SPDX-License-Identifier: MIT
#include "opener/resolve/file_conditions.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

namespace fdbroker::opener {

using policy::FileType;
using policy::OperationSet;

namespace {

const char* text_of_refused(FileType type) noexcept {
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

std::optional<Obstacle> hold_links_against(const ObjectStatus& object, const policy::Rule& rule,
                                           LinkProtection protection) noexcept {
    const bool links_are_safe = protection.hardlinks && object.directory_owner == 0 &&
                                !rule.operations.intersects(policy::content_changing_operations);
    const std::uint64_t most = rule.files.max_links.value_or(links_are_safe ? policy::any_links : 1);
    if (object.links <= most) return std::nullopt;
    return Obstacle{EACCES, "it has more links than the rule's max_links"};
}

}  // namespace

const char* explain_open_failure(int errno_value) noexcept {
    switch (errno_value) {
        case ELOOP:
            return "a symbolic link is on the way";
        case ENOENT:
            return "it does not exist";
        case ENOTDIR:
            return "a component on the way is not a directory";
        case EISDIR:
            return "it is a directory";
        case EEXIST:
            return "it is there already";
        case EAGAIN:
            return "another process holds a lease on it";
        case ETIMEDOUT:
            return "another process holds a lease on it, or its server does not answer";
        case EACCES:
            return "the opener itself may not open it";
        case EPERM:
            return "the kernel forbids it: an immutable or append-only file or directory (lsattr), or a "
                   "security "
                   "module";
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

Obstacle refused_type(FileType type) noexcept {
    return {type == FileType::directory ? EISDIR : EACCES, text_of_refused(type)};
}

LinkProtection read_link_protection() {
    std::ifstream file("/proc/sys/fs/protected_hardlinks");
    int value = 0;
    return {.hardlinks = (file >> value) && value != 0};
}

Demand demand_of(OperationSet operations) noexcept {
    return policy::name_operations.contains_all(operations) ? Demand::name : Demand::content;
}

std::optional<Obstacle> hold_against(const ObjectStatus& object, const policy::Rule& rule, Demand demand,
                                     LinkProtection protection, uid_t peer_uid) noexcept {
    const policy::FileConditions& files = rule.files;
    if (demand == Demand::link)
        if (const auto obstacle = hold_links_against(object, rule, protection)) return obstacle;
    if (demand == Demand::content) {
        if (!files.allows(object.type)) return refused_type(object.type);
        if (object.type == FileType::regular) {
            if (const auto obstacle = hold_links_against(object, rule, protection)) return obstacle;
            if (files.max_size && object.size > *files.max_size)
                return Obstacle{EFBIG, "it is larger than the rule's max_size"};
        }
    }
    const bool any_owner = files.owners.empty() && !files.peer_owns;
    const bool is_the_peers = files.peer_owns && object.owner == peer_uid;
    if (!any_owner && !is_the_peers && std::ranges::find(files.owners, object.owner) == files.owners.end())
        return Obstacle{EACCES, "its owner is not among the rule's owners"};
    if (files.same_mount && object.crossed_mount) return Obstacle{EXDEV, "it lies on another mount"};
    return std::nullopt;
}

std::optional<Obstacle> refuse_kernel_filesystem(proto::BorrowedFd object) noexcept {
    struct statfs filesystem;
    if (::fstatfs(object.number(), &filesystem) != 0) return Obstacle{errno, "its filesystem cannot be told"};
    // procfs answers for the process that opens: /proc/self would be the broker.
    if (filesystem.f_type == PROC_SUPER_MAGIC || filesystem.f_type == SYSFS_MAGIC)
        return Obstacle{EACCES, "it lies in procfs or sysfs, which no rule names literally"};
    return std::nullopt;
}

}  // namespace fdbroker::opener
