// SPDX-License-Identifier: MIT
// Notices when a directory that rules name becomes another: it appears, vanishes, is moved away and replaced, is mounted
// over or unmounted, or something is mounted below it, or its mount gets other flags. A private root keeps showing what
// was there when it was made, so a new generation has to follow.
//
// A separate process outside every private root looks: a directory on a filesystem that hangs would hold the supervisor up.
// It compares the objects that the names lead to, a few times a second, and at once when a mount changes. No kind of change
// is missed, while inotify(7) misses mounts, network filesystems, and parents that are replaced themselves.
//
// A directory that does not answer (probe_processes.hpp) does not hide changes of the others. A generation starts without
// the directories that do not answer, and another generation follows when they do.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/probe_processes.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

inline constexpr std::chrono::milliseconds watch_interval{400};
// How long an answer is waited for: of each mount that hangs when a generation starts, and of one that begins to hang.
inline constexpr std::chrono::milliseconds first_patience{2'000};
inline constexpr std::chrono::milliseconds watch_patience{400};

// Starts the process, which has nothing but the right to look. It writes a byte to `tell` for each change since this call.
// It tells `log` which directories no longer answer and why it ends. It ends with the caller. This function returns after the
// first look, with the directories that did not answer marked in `plan`. The caller must have one thread.
proto::Result<void> start_directory_watch(ConfinementPlan& plan, proto::BorrowedFd tell,
                                          const std::function<void(std::string_view)>& log);

// The directories that are marked so, for whoever reads what the opener says; each a line without its newline.
std::vector<std::string> describe_silent(const ConfinementPlan& plan);

}  // namespace fdbroker::opener
