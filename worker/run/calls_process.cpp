// SPDX-License-Identifier: MIT
// Programs, and what /proc tells the program of itself: never of another process.
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

using proto::UniqueFd;

// Files of /proc that tell of the machine, the same to everybody.
constexpr std::array public_files{"cpuinfo",
                                  "meminfo",
                                  "stat",
                                  "loadavg",
                                  "uptime",
                                  "version",
                                  "filesystems",
                                  "sys/kernel/osrelease",
                                  "sys/kernel/ostype",
                                  "sys/kernel/ngroups_max",
                                  "sys/kernel/cap_last_cap",
                                  "sys/kernel/pid_max",
                                  "sys/kernel/threads-max",
                                  "sys/kernel/random/uuid",
                                  "sys/kernel/random/boot_id",
                                  "sys/vm/overcommit_memory",
                                  "sys/vm/max_map_count",
                                  "sys/fs/pipe-max-size",
                                  "sys/fs/file-max",
                                  "sys/fs/nr_open",
                                  "sys/net/core/somaxconn"};
// Files of /proc that tell of the program.
constexpr std::array own_files{
    "maps",          "smaps",  "smaps_rollup", "stat",      "statm",  "status", "cmdline", "comm",
    "environ",       "limits", "mounts",       "mountinfo", "cgroup", "io",     "auxv",    "oom_score",
    "oom_score_adj", "sched",  "schedstat",    "wchan",     "fd",     "fdinfo", "task"};

// A set-user-ID program gains nothing under no_new_privs, and most do harm without.
bool gains_by_exec(const struct stat& status) {
    return (status.st_mode & S_ISUID) != 0 ||
           ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0);
}

// A brokered program is copied to where the kernel looks for it. The rule's directory must let execute.
Task<OrErrno<void>> bring_program(const Call& call, std::string path) {
    const OrErrno<UniqueFd> file = co_await open_brokered(call, path, O_RDONLY | O_NONBLOCK, 0);
    if (!file) co_return std::unexpected(file.error() == EISDIR ? EACCES : file.error());
    struct statvfs mount;
    struct stat status;
    if (::fstatvfs(file->number(), &mount) != 0 || ::fstat(file->number(), &status) != 0)
        co_return std::unexpected(errno);
    if ((mount.f_flag & ST_NOEXEC) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & 0111) == 0)
        co_return std::unexpected(EACCES);
    if (gains_by_exec(status)) {
        call.services.complain(path + ": a set-user-ID program gains nothing here, and is not run");
        co_return std::unexpected(EPERM);
    }
    const auto slash = path.rfind('/');
    if (slash > 0) {
        const OrErrno<void> made = co_await make_stand_in(call, path.substr(0, slash));
        if (!made) co_return made;
    }
    co_return call.services.view.put_program(path, file->borrow());
}

Task<Answer> execute(const Call& call, int directory, std::uint64_t path) {
    OrErrno<Location> location = co_await call.locate(directory, path, LastLink::follow);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::process) co_return Answer::failure(EACCES);
    if (location->region == Region::native) {
        struct stat status;
        if (::stat(location->path.c_str(), &status) == 0 && gains_by_exec(status)) {
            call.services.complain(location->path +
                                   ": a set-user-ID program gains nothing here, and is not run");
            co_return Answer::failure(EPERM);
        }
        co_return Answer::go_on();
    }
    const OrErrno<void> brought = co_await bring_program(call, std::move(location->path));
    if (!brought) co_return Answer::failure(brought.error());
    // A path that is exchanged meanwhile leads to another program that the program may run: Landlock lets nothing else.
    co_return Answer::go_on();
}

// /dev/fd/N is a duplicate of descriptor N; brokered files are located by their paths.
Answer open_descriptor(const Call& call, int number, unsigned flags) {
    auto copy = call.target.duplicate(number);
    if (!copy) return Answer::failure(copy.error() == EBADF ? ENOENT : copy.error());
    const auto has = static_cast<unsigned>(::fcntl(copy->number(), F_GETFL)) & O_ACCMODE;
    if (has != O_RDWR && has != (flags & O_ACCMODE)) return Answer::failure(EACCES);
    return Answer::deliver(std::move(*copy), flags & O_CLOEXEC);
}

}  // namespace

bool is_public_proc_file(std::string_view name) {
    return name.empty() || std::ranges::find(public_files, name) != public_files.end();
}

Task<Answer> handle_execve(const Call& call) {
    return execute(call, AT_FDCWD, call.argument(0));
}

Task<Answer> handle_execveat(const Call& call) {
    // A descriptor's program: Landlock decides.
    const auto text = call.target.read_string(call.argument(1), PATH_MAX);
    if (!text) co_return Answer::failure(text.error());
    if (text->empty()) co_return Answer::go_on();
    Answer answer = co_await execute(call, call.number(0), call.argument(1));
    co_return answer;
}

Task<Answer> open_process_file(const Call& call, Location location, unsigned flags) {
    auto own = own_proc_part(call.target, location.path);
    constexpr std::string_view proc = "/proc/";
    if (location.path == "/proc/mounts") own = "mounts";
    if (own && own->starts_with("fd/") && own->find('/', 3) == std::string::npos) {
        co_return open_descriptor(call, std::atoi(own->c_str() + 3), flags);
    }
    if ((flags & O_ACCMODE) != O_RDONLY) co_return Answer::failure(EACCES);
    if (own) {
        const std::string_view first = std::string_view(*own).substr(0, own->find('/'));
        if (std::ranges::find(own_files, first) == own_files.end() || own->find("..") != std::string::npos)
            co_return Answer::failure(own->empty() || first == "ns" ? EACCES : ENOENT);
        auto file = call.target.open_own(*own);
        if (!file) co_return Answer::failure(file.error());
        co_return Answer::deliver(std::move(*file), flags & O_CLOEXEC);
    }
    const std::string name =
        location.path.size() > proc.size() ? location.path.substr(proc.size()) : std::string();
    if (name.empty()) co_return Answer::failure(EACCES);
    if (!is_public_proc_file(name)) co_return Answer::failure(ENOENT);
    UniqueFd file(::openat(call.services.proc.number(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) co_return Answer::failure(errno);
    co_return Answer::deliver(std::move(file), flags & O_CLOEXEC);
}

OrErrno<std::string> read_process_link(const Call& call, const Location& location) {
    if (location.path == "/proc/self" || location.path == "/proc/thread-self") {
        const auto process = call.target.process();
        if (!process) return std::unexpected(process.error());
        return std::to_string(*process);
    }
    if (location.path == "/proc/mounts") return "self/mounts";
    const auto own = own_proc_part(call.target, location.path);
    if (!own) return std::unexpected(ENOENT);
    if (own->starts_with("fd/")) {
        const auto path = brokered_path_of(call, std::atoi(own->c_str() + 3));
        if (path && !path->empty()) return *path;
    }
    if (own->starts_with("fd/") || *own == "exe" || *own == "cwd" || *own == "root")
        return call.target.read_link(*own);
    return std::unexpected(EINVAL);
}

}  // namespace fdbroker::worker
