// SPDX-License-Identifier: MIT
#include "opener/resolve/directory_table.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <functional>
#include <utility>

namespace fdbroker::opener {

namespace {

// FNV-1a, because it grows byte by byte: one pass over a path yields the hash of every prefix.
constexpr std::uint64_t hash_start = 0xcbf29ce484222325;
constexpr std::uint64_t extend(std::uint64_t hash, char byte) noexcept {
    return (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
}
// The low bits of FNV-1a are its weakest.
constexpr std::size_t slot_of(std::uint64_t hash, std::size_t mask) noexcept {
    return (hash ^ hash >> 32) & mask;
}

}  // namespace

DirectoryTable::DirectoryTable(std::vector<BoundDirectory> directories)
    : directories_(std::move(directories)), slots_(std::bit_ceil(2 * directories_.size() + 2)) {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = 0; i < directories_.size(); ++i) {
        std::uint64_t hash = hash_start;
        for (const char byte : directories_[i].path) hash = extend(hash, byte);
        std::size_t slot = slot_of(hash, mask);
        while (slots_[slot] != 0) slot = (slot + 1) & mask;
        slots_[slot] = static_cast<std::uint32_t>(i + 1);
    }
}

const BoundDirectory* DirectoryTable::look_up(std::string_view path, std::uint64_t hash) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t slot = slot_of(hash, mask); slots_[slot] != 0; slot = (slot + 1) & mask) {
        const BoundDirectory& directory = directories_[slots_[slot] - 1];
        if (directory.path == path) return &directory;
    }
    return nullptr;
}

DirectoryTable::Found DirectoryTable::find(std::string_view path) const noexcept {
    Found found;
    const auto take = [&found](const BoundDirectory* directory, const char* relative) {
        if (directory->errno_value == ELOOP && found.directory != nullptr) return;
        found.directory = directory;
        found.relative = relative;
    };
    std::uint64_t hash = hash_start;
    // The root is the one directory whose path ends in a slash.
    if (const BoundDirectory* root = look_up("/", extend(hash, '/'))) {
        take(root, path.size() > 1 ? path.data() + 1 : ".");
    }
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (i > 0 && path[i] == '/') {
            if (const BoundDirectory* directory = look_up(path.substr(0, i), hash)) {
                take(directory, path.data() + i + 1);
            }
        }
        hash = extend(hash, path[i]);
    }
    if (path.size() > 1) {
        if (const BoundDirectory* directory = look_up(path, hash)) take(directory, ".");
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
