// SPDX-License-Identifier: MIT
#include "opener/confinement/user_namespace.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

namespace {

proto::Result<void> write_mapping(const char* path, std::string_view text) {
    const proto::UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.number(), text.data(), text.size()) < 0)
        return proto::system_error("write", path);
    return {};
}

}  // namespace

proto::Result<void> enter_user_namespace() {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    // The files of a process that is not dumpable, as after a change of uid, are root's.
    if (::prctl(PR_SET_DUMPABLE, 1) != 0) return proto::system_error("prctl", "PR_SET_DUMPABLE");
    if (::unshare(CLONE_NEWUSER) != 0) return proto::system_error("unshare", "CLONE_NEWUSER");
    // A process that cannot set groups may map a gid: user_namespaces(7).
    if (const auto denied = write_mapping("/proc/self/setgroups", "deny"); !denied) return denied;
    if (const auto mapped = write_mapping("/proc/self/uid_map", fmt::format("{0} {0} 1", uid)); !mapped)
        return mapped;
    return write_mapping("/proc/self/gid_map", fmt::format("{0} {0} 1", gid));
}

}  // namespace fdbroker::opener
