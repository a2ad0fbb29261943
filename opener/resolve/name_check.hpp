// SPDX-License-Identifier: MIT
// Whether an object bears the name that was decided on. Where a filesystem folds names (name_matching.hpp), `SECRET.KEY` leads
// to `secret.key`, past a deny rule for `*.key`.
//
// The kernel's own name for an object, which /proc/self/fd shows, is of no use: most filesystems that fold, FUSE and ext4
// among them, give an object the name by which it was first looked up. The directory is asked: the names that it lists
// are those that objects bear.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/resolve/file_conditions.hpp"
#include "policy/matching/policy.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

enum class NameCheck : std::uint8_t {
    never,            // no deny rule reaches below the directory
    on_other_mounts,  // filesystems mounted below may fold names, the directory's own does not
    always,
};

// Checks each bound directory, in their order. Blocks as their filesystems do.
std::vector<NameCheck> name_checks_of(std::span<const BoundDirectory> directories,
                                      const policy::Policy& policy);

constexpr bool asks_for_names(NameCheck check, bool crossed_mount) noexcept {
    return check == NameCheck::always || (check == NameCheck::on_other_mounts && crossed_mount);
}

// Whether the way from `directory` to `object` leads through a name that nothing bears: not listed where names may be
// folded. `relative` has no `.` but for the directory itself. Blocks as the filesystems do; takes time that grows with
// the number of names in the directories.
std::optional<Obstacle> refuse_alias(proto::BorrowedFd directory, std::string_view relative,
                                     proto::BorrowedFd object);

// Whether what would be made by `name` may bear another: vfat and its kin drop dots and spaces at the end.
std::optional<Obstacle> refuse_new_alias(proto::BorrowedFd directory, std::string_view name);

}  // namespace fdbroker::opener
