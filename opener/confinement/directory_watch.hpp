// Notices when a directory that rules name becomes another: it appears, vanishes, is moved away and replaced, is mounted
// over or unmounted, or something is mounted below it. A private root keeps showing what was there when it was made, so
// a new generation has to follow.
//
// That is looked for where it can be seen, outside every private root, by a process of its own: a directory on a
// filesystem that hangs would hold the supervisor up. It compares what the names lead to, a few times a second; there
// is no kind of change that this misses, as there is with inotify(7) (mounts, network filesystems, parents that are
// replaced themselves).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

inline constexpr std::chrono::milliseconds watch_interval{400};

// What the names of directories lead to at one moment.
class DirectorySnapshot {
  public:
    // `root` stands for /, `mounts` is an open /proc/self/mountinfo, or nothing. Blocks as long as a directory does.
    static proto::Result<DirectorySnapshot> take(proto::BorrowedFd root, proto::BorrowedFd mounts,
                                                 const std::vector<std::string>& paths);
    bool operator==(const DirectorySnapshot&) const = default;

  private:
    struct Directory {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::uint64_t mount_id = 0;
        int errno_value = 0;  // why it is not there
        bool operator==(const Directory&) const = default;
    };
    std::vector<Directory> directories_{};
    std::vector<std::string> mounts_below_{};
};

// The mount points of a mountinfo file (proc(5)) that lie below one of `paths`, each with its mount's id.
std::vector<std::string> mounts_below(std::string_view mountinfo, const std::vector<std::string>& paths);

// Starts the process, which has nothing but the right to look, writes a byte to `tell` for each change since this call,
// and ends with the caller. The caller must have one thread.
proto::Result<void> start_directory_watch(const ConfinementPlan& plan, proto::BorrowedFd tell);

}  // namespace fdbroker::opener
