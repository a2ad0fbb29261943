// SPDX-License-Identifier: MIT
// What rules ask of the object itself: `files:`, and what holds for every rule. One place for the broker, which asks
// of the descriptor that it is about to deliver, and for who explains what the broker would do.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <optional>

#include "opener/resolve/obstacle.hpp"
#include "policy/matching/policy.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The reason for the peer where openat2 failed with `errno_value`; a literal.
const char* explain_open_failure(int errno_value) noexcept;

// The answer to an open of a directory, whatever the rules' types say.
inline constexpr Obstacle directory_undelivered{EISDIR, "directories are listed, never delivered",
                                                proto::Step::inspect};

policy::FileType type_of(mode_t mode) noexcept;
// The reason for the peer where the object's type is not among the rule's.
Obstacle refused_type(policy::FileType type) noexcept;

// The kernel's settings that the inspection depends on.
struct LinkProtection {
    bool hardlinks = false;  // fs.protected_hardlinks (proc(5)): no one links to what is not theirs
};
// Needs /proc; not for the confined broker.
LinkProtection read_link_protection();

// An object and how it was reached.
struct ObjectStatus {
    policy::FileType type = policy::FileType::regular;
    std::uint64_t links = 0;
    std::uint64_t size = 0;  // bytes
    uid_t owner = 0;
    uid_t directory_owner = 0;   // owner of the bound directory that the walk began at
    bool crossed_mount = false;  // another filesystem, or a bind mount, below that directory
    // Which object it is.
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};

// How much of `files:` an operation asks.
enum class Demand : std::uint8_t {
    content,  // all of it: what is in the object is read, or the object is changed
    name,     // owners and same_mount: no more is done than to look at it or to change what it is called
    link,     // max_links as well: a symbolic link's own times are set
};
Demand demand_of(policy::OperationSet operations) noexcept;

// The first thing that `files:` of one rule has against the object; `peer_uid` is the ${user} of owners.
std::optional<Obstacle> hold_against(const ObjectStatus& object, const policy::Rule& rule, Demand demand,
                                     LinkProtection protection, uid_t peer_uid) noexcept;

// Whether the object lies in procfs or sysfs, which no rule grants from another filesystem's directory.
std::optional<Obstacle> refuse_kernel_filesystem(proto::BorrowedFd object) noexcept;

}  // namespace fdbroker::opener
