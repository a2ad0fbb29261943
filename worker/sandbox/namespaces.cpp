// SPDX-License-Identifier: MIT
#include "worker/sandbox/namespaces.hpp"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::system_error;
using proto::UniqueFd;

// sys/mount.h, which has these, and linux/mount.h cannot both be included before glibc 2.37.
constexpr unsigned long recursive_private = 1UL << 14 | 1UL << 18;  // MS_REC | MS_PRIVATE
constexpr int detach = 2;                                           // MNT_DETACH

Result<void> write_file(const char* path, std::string_view text) {
    const UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.number(), text.data(), text.size()) < 0)
        return system_error("namespaces", path);
    return {};
}

Result<void> write_map(const char* path, unsigned id) {
    std::array<char, 40> text;
    const int size = std::snprintf(text.data(), text.size(), "%u %u 1", id, id);
    return write_file(path, {text.data(), static_cast<std::size_t>(size)});
}

}  // namespace

Result<void> enter_user_namespace(int flags) {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    if (::unshare(CLONE_NEWUSER | flags) != 0) return system_error("namespaces", "unshare");
    return keep_own_ids(uid, gid);
}

Result<void> keep_own_ids(uid_t uid, gid_t gid) {
    // A process that may not set groups may map a gid: user_namespaces(7).
    if (const auto denied = write_file("/proc/self/setgroups", "deny"); !denied) return denied;
    if (const auto mapped = write_map("/proc/self/uid_map", uid); !mapped) return mapped;
    return write_map("/proc/self/gid_map", gid);
}

Result<UniqueFd> new_filesystem(const char* type, std::span<const MountOption> options, unsigned attributes) {
    const UniqueFd context(static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)));
    if (!context) return system_error("namespaces", "fsopen");
    for (const MountOption& option : options)
        if (::syscall(SYS_fsconfig, context.number(), FSCONFIG_SET_STRING, option.name, option.value, 0) != 0)
            return system_error("namespaces", option.name);
    if (::syscall(SYS_fsconfig, context.number(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        return system_error("namespaces", "fsconfig");
    UniqueFd root(static_cast<int>(::syscall(SYS_fsmount, context.number(), FSMOUNT_CLOEXEC, attributes)));
    if (!root) return system_error("namespaces", "fsmount");
    return root;
}

Result<void> enter_root(BorrowedFd root) {
    if (::syscall(SYS_mount, nullptr, "/", nullptr, recursive_private, nullptr) != 0)
        return system_error("namespaces", "mount");
    if (::syscall(SYS_move_mount, root.number(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return system_error("namespaces", "move_mount");
    if (::fchdir(root.number()) != 0) return system_error("namespaces", "fchdir");
    // Puts the old root on top of the new one, from where it is taken off: pivot_root(2), NOTES.
    if (::syscall(SYS_pivot_root, ".", ".") != 0) return system_error("namespaces", "pivot_root");
    if (::syscall(SYS_umount2, ".", detach) != 0) return system_error("namespaces", "umount2");
    return {};
}

Result<void> enter_namespaces() {
    constexpr int more = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    if (const auto entered = enter_user_namespace(more); !entered) return entered;
    constexpr std::array<MountOption, 1> options{{{"mode", "0555"}}};
    const auto root = new_filesystem(
        "tmpfs", options, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (!root) return std::unexpected(root.error());
    return enter_root(root->borrow());
}

Result<void> try_in_forked_child(const std::function<Result<void>()>& enter) {
    const long child = ::syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (child < 0) return system_error("namespaces", "clone");
    if (child == 0) {
        const auto entered = enter();
        ::_exit(entered ? 0 : entered.error().errno_value);
    }
    int status = 0;
    while (::waitpid(static_cast<pid_t>(child), &status, __WALL) != child)
        if (errno != EINTR) return system_error("namespaces", "waitpid");
    if (status == 0) return {};
    return system_error("namespaces", "", WIFEXITED(status) ? WEXITSTATUS(status) : EPERM);
}

Result<void> namespaces_available() {
    return try_in_forked_child(enter_namespaces);
}

}  // namespace fdbroker::worker
