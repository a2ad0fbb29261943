// SPDX-License-Identifier: MIT
// System calls and their handlers, by number.
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

struct Row {
    int number;
    const char* name;
    Handler handler;
};

constexpr std::array table{
#define FDBROKER_ROW(name)               \
    Row {                                \
        SYS_##name, #name, handle_##name \
    }
#define FDBROKER_ROW_AS(name, handler)      \
    Row {                                   \
        SYS_##name, #name, handle_##handler \
    }
#if defined(SYS_open)
    FDBROKER_ROW(open),
    FDBROKER_ROW(creat),
    FDBROKER_ROW(stat),
    FDBROKER_ROW(lstat),
    FDBROKER_ROW(access),
    FDBROKER_ROW(readlink),
    FDBROKER_ROW(mkdir),
    FDBROKER_ROW(unlink),
    FDBROKER_ROW(rmdir),
    FDBROKER_ROW(rename),
    FDBROKER_ROW(symlink),
    FDBROKER_ROW(link),
    FDBROKER_ROW(mknod),
    FDBROKER_ROW(chmod),
    FDBROKER_ROW(chown),
    FDBROKER_ROW(lchown),
    FDBROKER_ROW(utime),
    FDBROKER_ROW(utimes),
    FDBROKER_ROW(futimesat),
    FDBROKER_ROW(getdents),
#endif
    FDBROKER_ROW(openat),
    FDBROKER_ROW(openat2),
    FDBROKER_ROW(fstat),
    FDBROKER_ROW(newfstatat),
    FDBROKER_ROW(statx),
    FDBROKER_ROW(faccessat),
    FDBROKER_ROW_AS(faccessat2, faccessat),
    FDBROKER_ROW(readlinkat),
    FDBROKER_ROW(mkdirat),
    FDBROKER_ROW(unlinkat),
    FDBROKER_ROW(renameat),
    FDBROKER_ROW(renameat2),
    FDBROKER_ROW(symlinkat),
    FDBROKER_ROW(linkat),
    FDBROKER_ROW(mknodat),
    FDBROKER_ROW(truncate),
    FDBROKER_ROW(fchmod),
    FDBROKER_ROW(fchmodat),
#if defined(SYS_fchmodat2)
    FDBROKER_ROW_AS(fchmodat2, fchmodat),
#endif
    FDBROKER_ROW(fchown),
    FDBROKER_ROW(fchownat),
    FDBROKER_ROW(utimensat),
    FDBROKER_ROW(getxattr),
    FDBROKER_ROW_AS(lgetxattr, getxattr),
    FDBROKER_ROW(listxattr),
    FDBROKER_ROW_AS(llistxattr, listxattr),
    FDBROKER_ROW(setxattr),
    FDBROKER_ROW_AS(lsetxattr, setxattr),
    FDBROKER_ROW(fsetxattr),
    FDBROKER_ROW(removexattr),
    FDBROKER_ROW_AS(lremovexattr, removexattr),
    FDBROKER_ROW(fremovexattr),
    FDBROKER_ROW(statfs),
    FDBROKER_ROW(chdir),
    FDBROKER_ROW(getdents64),
    FDBROKER_ROW(execve),
    FDBROKER_ROW(execveat)
#undef FDBROKER_ROW
#undef FDBROKER_ROW_AS
};

const Row* row_of(int number) {
    const auto* row = std::ranges::find(table, number, &Row::number);
    return row == table.end() ? nullptr : row;
}

}  // namespace

Handler handler_of(int number) {
    const Row* row = row_of(number);
    return row == nullptr ? nullptr : row->handler;
}

const char* name_of(int number) {
    const Row* row = row_of(number);
    return row == nullptr ? "?" : row->name;
}

}  // namespace fdbroker::worker
