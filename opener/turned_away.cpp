#include "opener/turned_away.hpp"

#include <algorithm>

namespace fdbroker::opener {

bool TurnedAwayCounts::is_first(const TurnedAway& one, Clock::time_point now) {
    const auto [found, is_new] = entries_.try_emplace({one.uid, one.listener}, Entry{.since = now});
    Entry& entry = found->second;
    const std::uint32_t before = is_new ? 0 : entry.counted.count;
    entry.counted = one;
    entry.counted.count = before + (is_new ? 0 : one.count);
    due_ = std::min(due_.value_or(Clock::time_point::max()), entry.since + interval);
    return is_new;
}

std::vector<TurnedAway> TurnedAwayCounts::take(Clock::time_point now) {
    std::vector<TurnedAway> taken;
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
