// SPDX-License-Identifier: MIT
// System calls that the C library of Debian 12 (or the 6.1 headers it is built with) has no wrapper for, each
// named and shaped like its manual page. All return -1 and set errno.
#pragma once

#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace fdbroker::opener {

// For openat2(2), of every name that a peer or a policy gives: the kernel follows no link, whatever stands there.
inline constexpr std::uint64_t no_links_followed = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

namespace kernel {

// umount2(2); <sys/mount.h>, which has it, cannot be included beside <linux/mount.h> in glibc 2.36.
inline constexpr int detach = 0x2;

// The path of calls that work on a descriptor alone (AT_EMPTY_PATH). The filter of system calls permits those that change
// something with this very address: what stands at a path it cannot read.
inline constexpr char no_path[] = "";

inline int openat2(int directory, const char* path, std::uint64_t flags, std::uint64_t resolve,
                   mode_t mode = 0) noexcept {
    open_how how{};
    how.flags = flags;
    how.mode = mode;
    how.resolve = resolve;
    return static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how));
}

inline int mount(const char* source, const char* target, const char* type, unsigned long flags) noexcept {
    return static_cast<int>(::syscall(SYS_mount, source, target, type, flags, nullptr));
}
inline int umount2(const char* target, int flags) noexcept {
    return static_cast<int>(::syscall(SYS_umount2, target, flags));
}
inline int pivot_root(const char* new_root, const char* put_old) noexcept {
    return static_cast<int>(::syscall(SYS_pivot_root, new_root, put_old));
}

inline int open_tree(int directory, const char* path, unsigned flags) noexcept {
    return static_cast<int>(::syscall(SYS_open_tree, directory, path, flags));
}
inline int move_mount(int from, const char* from_path, int to, const char* to_path, unsigned flags) noexcept {
    return static_cast<int>(::syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}
inline int mount_setattr(int directory, const char* path, unsigned flags, mount_attr attributes) noexcept {
    return static_cast<int>(
        ::syscall(SYS_mount_setattr, directory, path, flags, &attributes, sizeof attributes));
}
inline int fsopen(const char* type, unsigned flags) noexcept {
    return static_cast<int>(::syscall(SYS_fsopen, type, flags));
}
inline int fsconfig(int context, unsigned command, const char* key, const char* value) noexcept {
    return static_cast<int>(::syscall(SYS_fsconfig, context, command, key, value, 0));
}
inline int fsmount(int context, unsigned flags, unsigned attributes) noexcept {
    return static_cast<int>(::syscall(SYS_fsmount, context, flags, attributes));
}

inline int pidfd_open(pid_t process, unsigned flags) noexcept {
    return static_cast<int>(::syscall(SYS_pidfd_open, process, flags));
}
inline int close_range(unsigned first, unsigned last, unsigned flags) noexcept {
    return static_cast<int>(::syscall(SYS_close_range, first, last, flags));
}

}  // namespace kernel

}  // namespace fdbroker::opener
