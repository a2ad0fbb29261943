// SPDX-License-Identifier: MIT
// Namespaces of a confined worker's own, as far as an unprivileged process may have them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <span>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

// New user, mount, network, IPC, host name and cgroup namespaces for this process: its root directory is empty and
// read-only, it has no network interface but a loopback one that is down, and nobody's message queues. Its user and group
// keep their numbers, all others are shown as the overflow ones. For a process with one thread.
//
// Not among them is the one for processes, since unshare(2) puts only children there, and no thread could be started
// afterwards: see pid_namespace.hpp.
//
// A failure half-way cannot be undone.
proto::Result<void> enter_namespaces();

// Whether enter_namespaces() would succeed, tried in a child: security modules take away the capabilities that a new user
// namespace brings, which shows only afterwards. Else the reason: EPERM (a sysctl, a
// security module, a filter, or a chroot), ENOSPC or EUSERS (there are too many), others as
// unshare(2), mount(2) and pivot_root(2).
proto::Result<void> namespaces_available();

// The result that `enter` would return, tried in a child, since a failure half-way cannot be undone. The program does not
// learn of the child: no SIGCHLD, no pthread_atfork(3).
proto::Result<void> try_in_forked_child(const std::function<proto::Result<void>()>& enter);

// user_namespaces(7): a new user namespace in which the caller's user and group have their numbers.
// `flags`: further namespaces of unshare(2), made together with it and owned by it.
proto::Result<void> enter_user_namespace(int flags);
// The part of that which comes after a process is in its new user namespace: `uid` and `gid` keep their numbers there.
proto::Result<void> keep_own_ids(uid_t uid, gid_t gid);

// A new filesystem of that type (tmpfs, proc), attached nowhere; `options` are those of mount(8). `attributes`:
// MOUNT_ATTR_* of mount_setattr(2). For a process with CAP_SYS_ADMIN in its user namespace.
struct MountOption {
    const char* name;
    const char* value;
};
proto::Result<proto::UniqueFd> new_filesystem(const char* type, std::span<const MountOption> options,
                                              unsigned attributes);
// That filesystem becomes the root directory and the working directory, the former one goes, and mounts elsewhere do not
// show here any more. In a mount namespace of one's own.
proto::Result<void> enter_root(proto::BorrowedFd root);

}  // namespace fdbroker::worker
