// SPDX-License-Identifier: MIT
#include "proto/watch.hpp"

#include <sys/stat.h>

#include <tuple>

namespace fdbroker::proto {
namespace {

// A filesystem may give a new object the number of an old one at once.
bool is_same_object(const Status& before, const Status& now) noexcept {
    const auto identity = [](const Status& status) {
        return std::tuple(status.dev_major, status.dev_minor, status.inode, status.mode & S_IFMT);
    };
    const bool have_births = (before.mask & now.mask & STATX_BTIME) != 0;
    return identity(before) == identity(now) && (!have_births || before.birth == now.birth);
}

bool has_same_content(const Status& before, const Status& now) noexcept {
    return before.size == now.size && before.modification == now.modification;
}

// A write moves both times to the same point: a change time beside it tells of something else.
bool has_same_attributes(const Status& before, const Status& now) noexcept {
    const auto attributes = [](const Status& status) {
        return std::tuple(status.mode, status.uid, status.gid, status.links, status.attributes);
    };
    const bool by_write_alone = now.change == now.modification && !has_same_content(before, now);
    return attributes(before) == attributes(now) && (before.change == now.change || by_write_alone);
}

}  // namespace

std::uint8_t changes_between(const Looked& before, const Looked& now) noexcept {
    if (!before && !now) return 0;
    if (!before || !now || !is_same_object(*before, *now)) return watch_all;
    std::uint8_t changes = 0;
    if (!has_same_content(*before, *now)) changes |= watch_content;
    if (!has_same_attributes(*before, *now)) changes |= watch_attributes;
    return changes;
}

}  // namespace fdbroker::proto
