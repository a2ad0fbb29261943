// SPDX-License-Identifier: MIT
#include "opener/quota/user_quota.hpp"

namespace fdbroker::opener {

UserQuota& UserQuotas::of(std::uint32_t uid) {
    if (const auto found = quotas_.find(uid); found != quotas_.end()) return *found->second;
    if (quotas_.size() >= forget_at_) {
        forget_idle(UserQuota::Clock::now());
        forget_at_ = 2 * quotas_.size() + 1024;
    }
    return *quotas_.emplace(uid, std::make_unique<UserQuota>(limits_)).first->second;
}

void UserQuotas::forget_idle(UserQuota::Clock::time_point now) {
    std::erase_if(quotas_, [now](const auto& entry) { return entry.second->is_idle(now); });
}

}  // namespace fdbroker::opener
