// SPDX-License-Identifier: MIT
#include "worker/run/call.hpp"

#include <cerrno>

namespace fdbroker::worker {
namespace {

constexpr std::size_t most_files = 65536;
constexpr std::size_t most_first_pages = 64;
constexpr std::uint64_t page_numbers = 1U << 19;  // positions stay below 2^31

}  // namespace

void OpenFiles::note(const struct stat& status, std::string path) {
    const Key key{status.st_dev, status.st_ino};
    if (const auto found = paths_.find(key); found != paths_.end()) {
        found->second = std::move(path);
        return;
    }
    if (order_.size() < most_files) {
        order_.push_back(key);
    } else {
        paths_.erase(std::exchange(order_[oldest_], key));
        oldest_ = (oldest_ + 1) % most_files;
    }
    paths_.emplace(key, std::move(path));
}

std::string OpenFiles::path_of(const struct stat& status) const {
    const auto found = paths_.find({status.st_dev, status.st_ino});
    return found == paths_.end() ? std::string() : found->second;
}

void OpenFiles::renamed(const std::string& path, const std::string& new_path) {
    for (auto& [key, known] : paths_)
        if (is_within(known, path)) known.replace(0, path.size(), new_path);
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

OrErrno<std::string> brokered_path_of(const Call& call, int descriptor) {
    const auto status = call.target.status_of(descriptor);
    if (!status) return std::unexpected(status.error());
    if (call.services.view.is_stand_in(*status)) return call.target.path_of(descriptor);
    return call.services.files.path_of(*status);
}

}  // namespace fdbroker::worker
