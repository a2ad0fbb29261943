// SPDX-License-Identifier: MIT
#include "opener/supervisor/process_usage.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "opener/supervisor/process_tree.hpp"

namespace fdbroker::opener {

namespace {

void add(ProcessUsage& sum, pid_t pid) {
    // proc_pid_statm(5): the second number is the resident pages.
    const std::string sizes = proc_file(pid, "statm");
    const std::size_t space = sizes.find(' ');
    if (space == std::string::npos) return;
    ++sum.processes;
    const std::uint64_t pages = std::strtoull(sizes.c_str() + space, nullptr, 10);
    sum.resident += pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    // Since 6.2 the size of the directory is the number of descriptors; reading it would take CAP_SYS_PTRACE.
    struct stat status{};
    if (::stat(fmt::format("/proc/{}/fd", pid).c_str(), &status) == 0)
        sum.descriptors += static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

ProcessUsage usage_of(pid_t pid) {
    ProcessUsage usage;
    if (pid > 0) add(usage, pid);
    return usage;
}

ProcessUsage usage_below(pid_t pid) {
    ProcessUsage usage;
    if (pid <= 0) return usage;
    std::vector<pid_t> left = children_of(pid);
    while (!left.empty() && usage.processes < max_usage_processes) {
        const pid_t one = left.back();
        left.pop_back();
        add(usage, one);
        for (const pid_t child : children_of(one)) left.push_back(child);
    }
    return usage;
}

void UsageMeter::measure(SupervisorFacts& facts, pid_t broker) {
    constexpr std::chrono::seconds interval{1};
    const auto now = std::chrono::steady_clock::now();
    if (now < measured_at_ + interval) return;
    measured_at_ = now;
    const auto store = [](UsageFacts& to, const ProcessUsage& usage) {
        to.processes = usage.processes;
        to.resident = usage.resident;
        to.descriptors = usage.descriptors;
    };
    store(facts.supervisor_usage, usage_of(::getpid()));
    store(facts.broker_usage, usage_of(broker));
    store(facts.helpers_usage, usage_below(broker));
}

}  // namespace fdbroker::opener
