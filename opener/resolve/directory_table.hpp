// SPDX-License-Identifier: MIT
// The directories that a generation holds, found by path: which of them lies deepest on the way to a file.
#pragma once

#include <bitset>
#include <climits>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "opener/confinement/confinement.hpp"

namespace fdbroker::opener {

class DirectoryTable {
  public:
    explicit DirectoryTable(std::vector<BoundDirectory> directories);

    struct Found {
        const BoundDirectory* directory = nullptr;
        // The rest of the path, a C string like the path itself; "." for the directory itself.
        const char* relative = nullptr;
        // Where `directory` is bound for one below it that rules name: the way to that one, where it lies on the path, and
        // what the rest is from there. Empty: there is none.
        std::string_view inner{};
        const char* relative_to_inner = nullptr;
    };
    // The deepest directory that is `path` or above it; one that a link keeps from being bound counts only where there is
    // no other. `path` is canonical and followed by a NUL. Takes time that grows with the path, not with the number of
    // directories. directory is null when there is none.
    Found find(std::string_view path) const noexcept;

    const std::vector<BoundDirectory>& directories() const noexcept { return directories_; }

  private:
    static void find_inner(std::string_view path, Found& found) noexcept;

    std::vector<BoundDirectory> directories_;
    std::unordered_map<std::string_view, const BoundDirectory*> by_path_{};
    std::bitset<PATH_MAX> lengths_{};  // that a path in by_path_ has
};

}  // namespace fdbroker::opener
