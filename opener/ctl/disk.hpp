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

// An object on the way, from / on; behind a link that is followed, those on the way to where it leads that are not there
// yet.
struct DiskStep {
    std::string path{};
    policy::FileType type = policy::FileType::directory;
    uid_t owner = 0;
    mode_t mode = 0;  // permission bits
    std::uint64_t links = 0;
    std::uint64_t size = 0;  // bytes
    std::string target{};    // of a symbolic link: what it holds
    std::string leads_to{};  // the same as an absolute path
};

// What one rule of the grant says to the object.
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
    std::vector<RuleVerdict> verdicts{};  // of the rules that grant what the path leads to, once it is found
    std::optional<DiskObstacle> obstacle{};  // none: nothing on disk stands in the way
    std::string ended_at{};                  // the object itself, or what is missing on the way to it
};

// Asks a DryRun of the requests that these operations take, of which the policy must allow each; the report is of the first
// that meets an obstacle. `path` is followed by a NUL. Blocks as long as the filesystem does; opens nothing but O_PATH
// descriptors, and triggers no automount.
DiskReport look_on_disk(const policy::Policy& policy, const policy::Peer& peer,
                        policy::OperationSet operations, policy::RequestPath path);

const char* describe(policy::FileType type) noexcept;  // "regular file"
std::string octal(mode_t mode);                        // "0644"

// Lines for a terminal, each ended by a newline.
std::string to_text(const DiskReport& report);

}  // namespace fdbroker::ctl
