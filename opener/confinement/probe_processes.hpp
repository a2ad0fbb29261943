// SPDX-License-Identifier: MIT
// Looks at directories whose filesystems may not answer. A look can hang for as long as its filesystem does, so it is
// taken by a process of its own, which is left behind then: the others are looked at by another.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The object that the name of a directory leads to.
struct SeenDirectory {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t mount_id = 0;
    int errno_value = 0;  // why it is not there
    bool operator==(const SeenDirectory&) const = default;
};

// A line of a mountinfo file (proc(5)): the identifier, the mount point and the mount's own options.
struct ListedMount {
    std::string_view id;
    std::string point;
    std::string_view options;
};
std::vector<ListedMount> listed_mounts(std::string_view mountinfo);

bool is_below(std::string_view path, std::string_view directory) noexcept;

// The mount point that `path` is on, as far as its name tells; `path` itself where none is listed.
std::string_view mount_point_of(std::string_view path, std::span<const ListedMount> mounts) noexcept;

class ProbeProcesses {
  public:
    // Mounts that hang at a time. When there are more, nothing else is looked at before one of them answers.
    static constexpr std::size_t max_silent = 64;

    // `root` stands for /. The caller must have one thread, and ignore SIGCHLD; the processes end with it.
    ProbeProcesses(proto::UniqueFd root, std::vector<std::string> paths)
        : root_(std::move(root)), paths_(std::move(paths)) {}

    const std::vector<std::string>& paths() const noexcept { return paths_; }

    // Finds the object each path leads to; nullopt: no answer within `patience`, or none from the same mount. Blocks for
    // no longer than `patience` for each mount that hangs and is not known to.
    // system: a failure that concerns all directories (no processes, no descriptors, no memory).
    using Answers = std::vector<std::optional<SeenDirectory>>;
    proto::Result<Answers> look(std::chrono::milliseconds patience, std::span<const ListedMount> mounts);

  private:
    struct Silent {
        proto::UniqueFd channel;  // readable: it has answered
        std::string mount;
    };
    bool is_silent(std::string_view mount) const noexcept;
    proto::Result<void> make_probe();
    [[noreturn]] void run_probe(proto::UniqueFd channel, pid_t parent);
    proto::Result<std::size_t> ask(std::span<const std::uint32_t> chunk, std::chrono::milliseconds patience,
                                   Answers& answers);

    proto::UniqueFd root_;
    std::vector<std::string> paths_;
    proto::UniqueFd probe_{};  // channel to the process that waits for work; empty: none
    std::vector<Silent> silent_{};
};

}  // namespace fdbroker::opener
