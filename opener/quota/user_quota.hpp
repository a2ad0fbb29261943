// SPDX-License-Identifier: MIT
// What one user has of a generation, over all connections: none of it is another's. Who uses more than there is, is not
// read for a while, and notices that as a delay.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "opener/base/token_bucket.hpp"
#include "opener/quota/fair_share.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// The reason of a connection turned away, for the peer and the record.
inline constexpr std::string_view too_many_of_user = "this user has as many connections as the policy allows";

class Session;
struct UserRecords;

class UserQuota {
  public:
    using Clock = TokenBucket::Clock;

    explicit UserQuota(const policy::Limits& limits)
        : copied_bytes_(limits.snapshot_bytes_per_second.rate, limits.snapshot_bytes_per_second.burst),
          record_bytes_(limits.record_bytes_per_second.rate, limits.record_bytes_per_second.burst) {
        if (const auto& rate = limits.requests_per_second) requests_.emplace(rate->rate, rate->burst);
    }

    bool limits_requests() const noexcept { return requests_.has_value(); }
    void use_requests(std::size_t count, Clock::time_point now) noexcept {
        requests_->use(count, now);
        wait_for(requests_->usable_at());
    }
    // False: the budget is used up, and the user is slowed.
    bool use_record_bytes(std::size_t count, Clock::time_point now) noexcept {
        record_bytes_.use(count, now);
        const Clock::time_point usable = record_bytes_.usable_at();
        if (usable <= now) return true;
        if (!is_slowed(now)) slowed_since_ = now;
        slowed_until_ = usable;
        wait_for(usable);
        return false;
    }
    // Whether the user has been waiting for record bytes within the last second, and since when.
    bool is_slowed(Clock::time_point now) const noexcept {
        return slowed_until_ > now - std::chrono::seconds(1);
    }
    Clock::time_point slowed_since() const noexcept { return slowed_since_; }
    // The user's sessions are not read before; in the past as a rule, and cheap to ask for.
    Clock::time_point paused_until() const noexcept { return paused_until_; }

    // Descriptors on their way to it.
    std::size_t unread = 0;

    // RoundRobin's.
    std::deque<Session*> ready{};  // that wait for the user's turn
    std::ptrdiff_t credit = 0;     // requests that may be answered in this turn

    // The audit's: the user's records that repeat, and whether counts are not recorded yet.
    std::shared_ptr<UserRecords> records{};
    bool has_counted_records = false;

    unsigned sessions = 0;
    bool is_idle(Clock::time_point now) noexcept {
        return sessions == 0 && !has_counted_records && unread == 0 && record_bytes_.is_full(now) &&
               copied_bytes_.is_full(now) && (!requests_ || requests_->is_full(now));
    }

  private:
    friend class UserQuotas;
    void wait_for(Clock::time_point when) noexcept { paused_until_ = std::max(paused_until_, when); }

    std::optional<TokenBucket> requests_{};
    TokenBucket copied_bytes_;  // UserQuotas's
    TokenBucket record_bytes_;
    Clock::time_point slowed_since_{};
    Clock::time_point slowed_until_ = Clock::time_point::min();
    Clock::time_point paused_until_ = Clock::time_point::min();
};

class UserQuotas {
  public:
    // `max_unread`: descriptors that may be on their way to all users together.
    UserQuotas(const policy::Limits& limits, std::size_t max_unread)
        : limits_(limits),
          max_unread_(max_unread),
          copied_bytes_(total_for(limits.snapshot_bytes_per_second.rate),
                        total_for(limits.snapshot_bytes_per_second.burst)) {}

    // The quota of this user; valid as long as it counts a session, or something of it is used up.
    UserQuota& of(std::uint32_t uid);
    // The use by a user who is not there any more is kept until all would be there again.
    void forget_idle(UserQuota::Clock::time_point now);

    // Descriptors on their way count against one limit of the broker's, whoever they are for (unix(7), ETOOMANYREFS). No
    // user can be made to give way, since the kernel holds them: a user who has none unread may always be sent some.
    bool may_send_more(const UserQuota& quota) const noexcept {
        return quota.unread == 0 || may_take(quota.unread, unread_, max_unread_);
    }
    void sent(UserQuota& quota, std::size_t descriptors) noexcept {
        quota.unread += descriptors;
        unread_ += descriptors;
    }
    void taken(UserQuota& quota, std::size_t descriptors) noexcept {
        quota.unread -= descriptors;
        unread_ -= descriptors;
    }
    // Bytes of snapshots. False: there are none for the user now. The last snapshot may be larger than what is left: a user
    // who has had none lately gets one.
    bool use_copied_bytes(UserQuota& quota, std::uint64_t count, UserQuota::Clock::time_point now) noexcept {
        const std::uint64_t own = quota.copied_bytes_.used(now), all = copied_bytes_.used(now);
        const bool has_share =
            own == 0 || may_take(own, all, total_for(limits_.snapshot_bytes_per_second.burst));
        if (quota.copied_bytes_.usable_at() > now || !has_share) return false;
        quota.copied_bytes_.use(count, now);
        copied_bytes_.use(count, now);
        return true;
    }
    // Descriptors on their way to all users together.
    std::size_t unread() const noexcept { return unread_; }

    void session_began(UserQuota& quota) noexcept {
        ++quota.sessions;
        ++sessions_;
    }
    void session_ended(UserQuota& quota) noexcept {
        --quota.sessions;
        --sessions_;
    }
    // Nobody else has a session.
    bool is_alone(const UserQuota& quota) const noexcept { return quota.sessions == sessions_; }

  private:
    policy::Limits limits_;
    std::size_t max_unread_;
    TokenBucket copied_bytes_;
    std::size_t unread_ = 0;
    std::size_t sessions_ = 0;
    std::unordered_map<std::uint32_t, std::unique_ptr<UserQuota>> quotas_{};
    std::size_t forget_at_ = 1024;
};

}  // namespace fdbroker::opener
