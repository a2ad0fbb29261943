// SPDX-License-Identifier: MIT
// What is on disk where a grant leads, and what the opener would make of it. For root, who sees what the opener sees.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "opener/resolve/file_conditions.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::ctl {

// An object on the way, from / on; the last one is the path's own when nothing ended the walk before.
struct DiskStep {
    std::string path{};
    policy::FileType type = policy::FileType::directory;
    uid_t owner = 0;
    mode_t mode = 0;  // permission bits
    std::uint64_t links = 0;
    std::uint64_t size = 0;    // bytes
    std::string target{};      // of a symbolic link: what it holds
    std::string leads_to{};    // the same as an absolute path
    std::uint64_t mount = 0;   // as statx(2), STATX_MNT_ID, tells it
    std::uint64_t device = 0;  // of its filesystem
};

// What one rule of the grant says to the object.
struct RuleVerdict {
    const policy::Rule* rule = nullptr;
    std::optional<opener::Obstacle> obstacle{};  // none: `files:` is fulfilled
};

struct DiskReport {
    std::vector<DiskStep> steps{};
    std::vector<RuleVerdict> verdicts{};         // empty: `files:` is not asked by these operations
    std::optional<opener::Obstacle> obstacle{};  // none: nothing on disk stands in the way
    std::string ended_at{};                      // the path that the obstacle is about
};

// Walks to the grant's path component by component, following no link, opening nothing but O_PATH descriptors, and holds
// what is there against the rules as the opener would. Blocks as long as the filesystem does; triggers no automount.
DiskReport look_on_disk(const policy::Policy& policy, const policy::Grant& grant, uid_t peer);

const char* describe(policy::FileType type) noexcept;  // "regular file"
std::string octal(mode_t mode);                        // "0644"

// Lines for a terminal, each ended by a newline.
std::string to_text(const DiskReport& report);

}  // namespace fdbroker::ctl
