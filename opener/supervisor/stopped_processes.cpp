// SPDX-License-Identifier: MIT
#include "opener/supervisor/stopped_processes.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <string>
#include <utility>

#include "opener/supervisor/process_tree.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

namespace {

// proc_pid_stat(5): after the name, which ends with the last parenthesis, state and parent.
bool is_stopped(pid_t pid, pid_t parent) {
    const std::string stat = proc_file(pid, "stat");
    const std::size_t name_end = stat.rfind(") ");
    if (name_end == std::string::npos || stat.size() < name_end + 5 || stat[name_end + 2] != 'T')
        return false;
    return std::strtol(stat.c_str() + name_end + 4, nullptr, 10) == parent;
}

// The pid may be another process's by now: the descriptor is that of the process that is looked at again.
bool kill_if_stopped(pid_t pid, pid_t parent) {
    const proto::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    return process && is_stopped(pid, parent) &&
           ::syscall(SYS_pidfd_send_signal, process.number(), SIGKILL, nullptr, 0) == 0;
}

}  // namespace

std::vector<pid_t> StoppedProcesses::end_stopped(std::span<const pid_t> others) {
    struct Child {
        pid_t pid;
        pid_t parent;
    };
    std::deque<Child> left;
    const auto add_children_of = [&](pid_t parent) {
        for (const pid_t child : children_of(parent))
            if (std::ranges::find(others, child) == others.end()) left.push_back({child, parent});
    };
    std::vector<pid_t> killed;
    std::map<pid_t, unsigned> still_stopped;
    add_children_of(::getpid());
    for (std::size_t looked_at = 0; !left.empty() && looked_at < max_looked_at; ++looked_at) {
        const Child child = left.front();
        left.pop_front();
        add_children_of(child.pid);
        if (!is_stopped(child.pid, child.parent)) continue;
        const auto before = stopped_.find(child.pid);
        const unsigned times = before == stopped_.end() ? 1 : before->second + 1;
        if (times >= looks_ && kill_if_stopped(child.pid, child.parent))
            killed.push_back(child.pid);
        else
            still_stopped.emplace(child.pid, times);
    }
    stopped_ = std::move(still_stopped);
    return killed;
}

}  // namespace fdbroker::opener
