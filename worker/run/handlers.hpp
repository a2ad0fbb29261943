// SPDX-License-Identifier: MIT
// The handlers of call_table.cpp, each for the system calls of its name, and what they share.
#pragma once

#include "worker/run/call.hpp"

namespace fdbroker::worker {

// ---- calls_open.cpp
Task<Answer> handle_open(const Call& call);
Task<Answer> handle_creat(const Call& call);
Task<Answer> handle_openat(const Call& call);
Task<Answer> handle_openat2(const Call& call);

// ---- calls_status.cpp
Task<Answer> handle_stat(const Call& call);
Task<Answer> handle_lstat(const Call& call);
Task<Answer> handle_fstat(const Call& call);
Task<Answer> handle_newfstatat(const Call& call);
Task<Answer> handle_statx(const Call& call);
Task<Answer> handle_access(const Call& call);
Task<Answer> handle_faccessat(const Call& call);
Task<Answer> handle_statfs(const Call& call);

// ---- calls_names.cpp
Task<Answer> handle_readlink(const Call& call);
Task<Answer> handle_readlinkat(const Call& call);
Task<Answer> handle_mkdir(const Call& call);
Task<Answer> handle_mkdirat(const Call& call);
Task<Answer> handle_unlink(const Call& call);
Task<Answer> handle_unlinkat(const Call& call);
Task<Answer> handle_rmdir(const Call& call);
Task<Answer> handle_rename(const Call& call);
Task<Answer> handle_renameat(const Call& call);
Task<Answer> handle_renameat2(const Call& call);
Task<Answer> handle_symlink(const Call& call);
Task<Answer> handle_symlinkat(const Call& call);
Task<Answer> handle_link(const Call& call);
Task<Answer> handle_linkat(const Call& call);
Task<Answer> handle_mknod(const Call& call);
Task<Answer> handle_mknodat(const Call& call);

// ---- calls_attributes.cpp
Task<Answer> handle_truncate(const Call& call);
Task<Answer> handle_chmod(const Call& call);
Task<Answer> handle_fchmod(const Call& call);
Task<Answer> handle_fchmodat(const Call& call);
Task<Answer> handle_chown(const Call& call);
Task<Answer> handle_lchown(const Call& call);
Task<Answer> handle_fchown(const Call& call);
Task<Answer> handle_fchownat(const Call& call);
Task<Answer> handle_utime(const Call& call);
Task<Answer> handle_utimes(const Call& call);
Task<Answer> handle_futimesat(const Call& call);
Task<Answer> handle_utimensat(const Call& call);

// ---- calls_xattr.cpp
Task<Answer> handle_getxattr(const Call& call);
Task<Answer> handle_listxattr(const Call& call);
Task<Answer> handle_setxattr(const Call& call);
Task<Answer> handle_fsetxattr(const Call& call);
Task<Answer> handle_removexattr(const Call& call);
Task<Answer> handle_fremovexattr(const Call& call);

// ---- calls_directories.cpp
Task<Answer> handle_chdir(const Call& call);
Task<Answer> handle_getdents(const Call& call);
Task<Answer> handle_getdents64(const Call& call);

// ---- calls_process.cpp
Task<Answer> handle_execve(const Call& call);
Task<Answer> handle_execveat(const Call& call);
// Paths of Region::process.
Task<Answer> open_process_file(const Call& call, Location location, unsigned flags);
OrErrno<std::string> read_process_link(const Call& call, const Location& location);

}  // namespace fdbroker::worker
