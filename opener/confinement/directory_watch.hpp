// SPDX-License-Identifier: MIT
// Notices when a directory that rules name becomes another: it appears, vanishes, is moved away and replaced, is mounted
// over or unmounted, or something is mounted below it, or its mount gets other flags. A private root keeps showing what was there when it was made, so
// a new generation has to follow.
//
// That is looked for where it can be seen, outside every private root, by a process of its own: a directory on a
// filesystem that hangs would hold the supervisor up. It compares what the names lead to, a few times a second, and at once
// when a mount changes; there is no kind of change that this misses, as there is with inotify(7) (mounts, network
// filesystems, parents that are replaced themselves).
//
// A directory that does not answer (directory_lookers.hpp) keeps nobody from noticing what becomes of the others. One that
// does not when a generation starts is left out of it, and another generation follows when it does.
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

// Starts the process, which has nothing but the right to look, writes a byte to `tell` for each change since this call,
// and ends with the caller. Returns when it has looked once, and marks in `plan` the directories that did not answer.
// It tells `log` why it ends and, later, which others do not answer any more. The caller must have one thread.
proto::Result<void> start_directory_watch(ConfinementPlan& plan, proto::BorrowedFd tell,
                                          const std::function<void(std::string_view)>& log);

// The directories that are marked so, for whoever reads what the opener says; each a line without its newline.
std::vector<std::string> describe_silent(const ConfinementPlan& plan);

}  // namespace fdbroker::opener
