// SPDX-License-Identifier: MIT
#include "worker/run/call.hpp"

#include <unistd.h>

#include <cerrno>

namespace fdbroker::worker {
namespace {

constexpr std::size_t most_files = 65536;
constexpr std::size_t most_first_pages = 64;
constexpr std::size_t most_inodes = 4096;
constexpr std::uint64_t unknown_inode = 1;        // 0 would be a removed entry
constexpr std::uint64_t page_numbers = 1U << 19;  // positions stay below 2^31

}  // namespace

void OpenFiles::note(const struct stat& status, std::string path) {
    const Key key{status.st_dev, status.st_ino};
    if (const auto found = paths_.find(key); found != paths_.end()) {
        if (found->second == path) return;
        keys_.erase({found->second, key});
        keys_.emplace(path, key);
        found->second = std::move(path);
        return;
    }
    if (order_.size() < most_files) {
        order_.push_back(key);
    } else {
        forget(std::exchange(order_[oldest_], key));
        oldest_ = (oldest_ + 1) % most_files;
    }
    keys_.emplace(path, key);
    paths_.emplace(key, std::move(path));
}

void OpenFiles::forget(const Key& key) {
    const auto found = paths_.find(key);
    if (found == paths_.end()) return;
    keys_.erase({found->second, key});
    paths_.erase(found);
}

std::string OpenFiles::path_of(const struct stat& status) const {
    const auto found = paths_.find({status.st_dev, status.st_ino});
    return found == paths_.end() ? std::string() : found->second;
}

void OpenFiles::renamed(const std::string& path, const std::string& new_path) {
    // Neighbours such as "a.txt" and "a/b" lie in between.
    std::vector<std::pair<std::string, Key>> moved;
    for (auto at = keys_.lower_bound({path, {}}); at != keys_.end() && at->first.starts_with(path); ++at)
        if (is_within(at->first, path)) moved.push_back(*at);
    for (auto& [known, key] : moved) {
        keys_.erase({known, key});
        known.replace(0, path.size(), new_path);
        keys_.emplace(known, key);
        paths_[key] = std::move(known);
    }
}

std::uint64_t DirectoryPages::add(DirectoryPage page) {
    const std::uint64_t number = next_;
    next_ = next_ % (page_numbers - 1) + 1;
    pages_.insert_or_assign(number, std::move(page));
    if (pages_.size() > most) {
        // The oldest is the one after the newest, around the end.
        const auto after = pages_.upper_bound(number);
        pages_.erase(after == pages_.end() ? pages_.begin() : after);
    }
    return number;
}

const DirectoryPage* DirectoryPages::find(std::uint64_t number) const {
    const auto found = pages_.find(number);
    return found == pages_.end() ? nullptr : &found->second;
}

void DirectoryPages::keep_first(ino_t stand_in, std::string payload) {
    if (first_.size() >= most_first_pages) first_.clear();
    first_.insert_or_assign(stand_in, std::move(payload));
}

std::string DirectoryPages::take_first(ino_t stand_in) {
    const auto found = first_.find(stand_in);
    if (found == first_.end()) return {};
    std::string payload = std::move(found->second);
    first_.erase(found);
    return payload;
}

void DirectoryPages::note_inode(const std::string& path, std::uint64_t inode) {
    if (inodes_.size() >= most_inodes) inodes_.clear();
    inodes_.insert_or_assign(path, inode);
}

std::uint64_t DirectoryPages::inode_of(const std::string& path) const {
    const auto found = inodes_.find(path);
    return found == inodes_.end() ? unknown_inode : found->second;
}

OrErrno<HeldFile> hold_file(const Call& call, int descriptor) {
    auto file = call.target.duplicate(descriptor);
    if (!file) return std::unexpected(file.error());
    if (!call.is_valid()) return std::unexpected(EINTR);
    struct stat status;
    if (::fstat(file->number(), &status) != 0) return std::unexpected(errno);
    if (!call.services.view.is_stand_in(status))
        return HeldFile{.file = std::move(*file), .path = call.services.files.path_of(status)};
    auto path = Target(call.services.proc, ::getpid()).path_of(file->number());
    if (!path) return std::unexpected(path.error());
    return HeldFile{.file = std::move(*file), .path = std::move(*path)};
}

OrErrno<std::string> brokered_path_of(const Call& call, int descriptor) {
    const auto status = call.target.status_of(descriptor);
    if (!status) return std::unexpected(status.error());
    if (call.services.view.is_stand_in(*status)) return call.target.path_of(descriptor);
    return call.services.files.path_of(*status);
}

}  // namespace fdbroker::worker
