// SPDX-License-Identifier: MIT
#include "opener/resolve/directory_table.hpp"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>

namespace fdbroker::opener {

DirectoryTable::DirectoryTable(std::vector<BoundDirectory> directories)
    : directories_(std::move(directories)) {
    for (const BoundDirectory& directory : directories_) {
        if (directory.path.size() >= lengths_.size()) continue;  // longer than any request's path
        by_path_.emplace(directory.path, &directory);
        lengths_.set(directory.path.size());
    }
}

DirectoryTable::Found DirectoryTable::find(std::string_view path) const noexcept {
    Found found;
    for (std::size_t end = path.size();;) {
        if (lengths_[end]) {
            if (const auto at = by_path_.find(path.substr(0, end)); at != by_path_.end()) {
                found.directory = at->second;
                // The root is the one directory whose path ends in a slash.
                found.relative = end == path.size() ? "." : path.data() + end + (end == 1 ? 0 : 1);
                if (found.directory->errno_value != ELOOP) break;
            }
        }
        if (end == 1) break;
        end = std::max<std::size_t>(path.rfind('/', end - 1), 1);
    }
    if (found.directory != nullptr && found.directory->stands_for) find_inner(path, found);
    return found;
}

// The deepest of those that the directory stands for.
void DirectoryTable::find_inner(std::string_view path, Found& found) noexcept {
    const auto& stands_for = *found.directory->stands_for;
    const std::size_t start = found.directory->path == "/" ? 1 : found.directory->path.size() + 1;
    for (std::size_t end = path.size(); end > start; end = path.rfind('/', end - 1)) {
        if (!std::ranges::binary_search(stands_for, path.substr(0, end), std::less<>())) continue;
        found.inner = path.substr(start, end - start);
        found.relative_to_inner = end == path.size() ? "." : path.data() + end + 1;
        return;
    }
}

}  // namespace fdbroker::opener
