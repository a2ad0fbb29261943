// SPDX-License-Identifier: MIT
#include "opener/supervisor/process_tree.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

std::string proc_file(pid_t pid, const char* name) {
    const proto::UniqueFd file(::open(fmt::format("/proc/{}/{}", pid, name).c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 8192> text;
    const ssize_t size = file ? ::read(file.number(), text.data(), text.size()) : 0;
    return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::vector<pid_t> children_of(pid_t pid) {
    const std::string text = proc_file(pid, fmt::format("task/{}/children", pid).c_str());
    std::vector<pid_t> children;
    const char* next = text.c_str();
    for (char* end = nullptr;; next = end) {
        const auto child = static_cast<pid_t>(std::strtol(next, &end, 10));
        if (end == next) return children;
        children.push_back(child);
    }
}

}  // namespace fdbroker::opener
