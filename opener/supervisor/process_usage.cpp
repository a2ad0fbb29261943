// SPDX-License-Identifier: MIT
#include "opener/supervisor/process_usage.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

namespace {

// What a small file holds; empty: it is not there.
std::string content_of(const std::string& path) {
    const proto::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 8192> text;
    const ssize_t size = file ? ::read(file.number(), text.data(), text.size()) : 0;
    return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::vector<pid_t> children_of(pid_t pid) {
    const std::string text = content_of(fmt::format("/proc/{0}/task/{0}/children", pid));
    std::vector<pid_t> children;
    const char* next = text.c_str();
    for (char* end = nullptr;; next = end) {
        const auto child = static_cast<pid_t>(std::strtol(next, &end, 10));
        if (end == next) return children;
        children.push_back(child);
    }
}

void add(ProcessUsage& sum, pid_t pid) {
    // proc_pid_statm(5): the second number is the resident pages.
    const std::string sizes = content_of(fmt::format("/proc/{}/statm", pid));
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

}  // namespace fdbroker::opener
