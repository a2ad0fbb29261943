// SPDX-License-Identifier: MIT
#include "opener/supervisor/rejected_connections.hpp"

#include <algorithm>

namespace fdbroker::opener {

bool RejectedConnections::is_first(const RejectedConnection& one, Clock::time_point now) {
    const auto [found, is_new] = entries_.try_emplace({one.uid, one.listener}, Entry{.since = now});
    Entry& entry = found->second;
    const std::uint32_t before = is_new ? 0 : entry.counted.count;
    entry.counted = one;
    entry.counted.count = before + (is_new ? 0 : one.count);
    due_ = std::min(due_.value_or(Clock::time_point::max()), entry.since + interval);
    return is_new;
}

std::vector<RejectedConnection> RejectedConnections::take(Clock::time_point now) {
    std::vector<RejectedConnection> taken;
    due_.reset();
    for (auto item = entries_.begin(); item != entries_.end();) {
        Entry& entry = item->second;
        if (now - entry.since >= interval) {
            if (entry.counted.count == 0) {
                item = entries_.erase(item);
                continue;
            }
            taken.push_back(entry.counted);
            entry.counted.count = 0;
            entry.since = now;
        }
        due_ = std::min(due_.value_or(Clock::time_point::max()), entry.since + interval);
        ++item;
    }
    return taken;
}

}  // namespace fdbroker::opener
