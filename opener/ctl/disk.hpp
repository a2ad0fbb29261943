// SPDX-License-Identifier: MIT
// What is on disk where a request leads, and what the opener would make of it. For root, who sees what the opener sees.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "opener/resolve/file_conditions.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::ctl {

// An object on the way from /. Behind a followed link come the objects on the way to the link's target, if not there yet.
struct DiskStep {
    std::string path{};
    policy::FileType type = policy::FileType::directory;
    uid_t owner = 0;
    mode_t mode = 0;  // permission bits
    std::uint64_t links = 0;
    std::uint64_t size = 0;  // bytes
    std::string target{};    // the text of a symbolic link
    std::string leads_to{};  // the same as an absolute path
};

// The verdict of a rule of the grant on the object.
struct RuleVerdict {
    std::string rule{};                          // the name; a report outlives its policy
    std::optional<opener::Obstacle> obstacle{};  // none: `files:` is fulfilled
};

struct DiskObstacle {
    int errno_value = 0;
    std::string reason{};  // in the opener's words
    std::string path{};
};

struct DiskReport {
    std::vector<DiskStep> steps{};
    std::vector<RuleVerdict> verdicts{};     // by the rules that grant the object found at the path
    std::optional<DiskObstacle> obstacle{};  // none: nothing on disk stands in the way
    std::string ended_at{};                  // the object itself, or what is missing on the way to it
};

// Makes a DryRun of the requests that these operations take, each of which the policy must allow. The report is about the
// first request that meets an obstacle. `path` is followed by a NUL. Blocks as long as the filesystem does. Opens nothing
// but O_PATH descriptors, and triggers no automount.
DiskReport look_on_disk(const policy::Policy& policy, const policy::Peer& peer,
                        policy::OperationSet operations, policy::RequestPath path);

const char* describe(policy::FileType type) noexcept;  // "regular file"
std::string octal(mode_t mode);                        // "0644"

// Lines for a terminal, each ended by a newline.
std::string to_text(const DiskReport& report);

}  // namespace fdbroker::ctl
