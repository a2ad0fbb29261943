// SPDX-License-Identifier: MIT
#include "opener/confinement/known_mounts.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>

#include "opener/confinement/paths.hpp"

namespace fdbroker::opener {

namespace {

std::string as_text(const ListedMount& mount) {
    return fmt::format("{} {} {}", mount.id, mount.options, mount.point);
}

bool leads_to(std::string_view point, std::string_view path) noexcept {
    return point == path || is_below(path, point);
}

std::vector<std::string> on_way_to(std::string_view path, std::string_view table) {
    std::vector<std::string> found;
    for (const ListedMount& mount : listed_mounts(table))
        if (leads_to(mount.point, path)) found.push_back(as_text(mount));
    return found;
}

bool is_below_one(std::string_view point, std::span<const std::string> paths) {
    for (std::string_view above = point; above.size() > 1;) {
        above = parent_of(above);
        if (std::ranges::binary_search(paths, above, std::less<>())) return true;
    }
    return false;
}

bool is_above_one(std::string_view point, std::span<const std::string> paths) {
    const std::string inside = point == "/" ? std::string(point) : std::string(point) + '/';
    const auto next = std::ranges::lower_bound(paths, inside, std::less<>());
    return (next != paths.end() && next->starts_with(inside)) ||
           std::ranges::binary_search(paths, point, std::less<>());
}

}  // namespace

std::vector<std::string> mounts_about(std::span<const ListedMount> mounts,
                                      std::span<const std::string> paths) {
    std::vector<std::string> found;
    for (const ListedMount& mount : mounts)
        if (is_above_one(mount.point, paths) || is_below_one(mount.point, paths))
            found.push_back(as_text(mount));
    return found;
}

std::string read_from_start(proto::BorrowedFd file) {
    std::string text;
    std::array<char, 16384> block;
    for (;;) {
        const ssize_t size =
            ::pread(file.number(), block.data(), block.size(), static_cast<off_t>(text.size()));
        if (size <= 0) return text;
        text.append(block.data(), static_cast<std::size_t>(size));
    }
}

KnownMounts::KnownMounts() : table_(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)) {
    if (table_) text_ = read_from_start(table_.borrow());
}

bool KnownMounts::hold_on_way_to(std::string_view path) const {
    if (!table_) return true;
    const std::string now = read_from_start(table_.borrow());
    return now == text_ || on_way_to(path, now) == on_way_to(path, text_);
}

}  // namespace fdbroker::opener
