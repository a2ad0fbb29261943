// SPDX-License-Identifier: MIT
// The mounts of the opener's own namespace. A private root has copies of those that were there when it was made, with the
// flags that they had: what is mounted, unmounted or remounted since does not show in it, until the directory watch sees it
// and another generation follows. Whoever changes files asks before that whether the copies are still right.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "opener/confinement/probe_processes.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Those of the mounts that lie at, above or below one of `paths`, which are sorted, each with its identifier and its
// options. When these are as they were, so are the copies.
std::vector<std::string> mounts_about(std::span<const ListedMount> mounts,
                                      std::span<const std::string> paths);

// The whole of a file of procfs; "" when it cannot be read.
std::string read_from_start(proto::BorrowedFd file);

class KnownMounts {
  public:
    // As they are now, in the namespace that the caller is in. Without /proc none are known, and nothing is told apart.
    KnownMounts();

    // The descriptor of mountinfo (proc(5)), which the process that asks later must have kept. Empty: none.
    proto::BorrowedFd descriptor() const noexcept { return table_.borrow(); }
    // Whether the mounts on the way to `path`, its own included, are what they were. Reads the table anew.
    bool hold_on_way_to(std::string_view path) const;

  private:
    proto::UniqueFd table_;
    std::string text_;
};

}  // namespace fdbroker::opener
