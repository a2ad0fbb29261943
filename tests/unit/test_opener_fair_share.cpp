// SPDX-License-Identifier: MIT
// The rule by which users share: 256 of them take all that they can get, and one more is served.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>

#include "opener/confinement/privileges.hpp"
#include "opener/quota/fair_share.hpp"
#include "opener/quota/helper_limits.hpp"
#include "opener/quota/user_quota.hpp"
#include "proto/message.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_opener_pool_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

constexpr std::uint32_t greedy_users = 256;
constexpr std::uint32_t newcomer = greedy_users + 1;

// The test plays helpers, so that it has both ends of all channels.
bool can_hold_descriptors(rlim_t count) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < count) return false;
    limit.rlim_cur = std::max(limit.rlim_cur, count);
    return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

// Streams until one is refused; the number of those that were not.
std::size_t begin_all(PoolFixture& fixture, std::uint32_t uid) {
    for (std::size_t begun = 0;; ++begun) {
        const std::uint64_t number = fixture.submit(uid);
        const auto [helper, allows_background] = fixture.given(number);
        fixture.report(*helper, number, allows_background ? 0 : EAGAIN);
        fixture.log_stderr(*helper, write_sent({.job = number,
                                                .descriptors = allows_background ? 1U : 0U,
                                                .in_background = allows_background}));
        if (allows_background) continue;
        fixture.log_stderr(*helper, write_idle());
        return begun;
    }
}

// Those that are told to end do so; how many there were.
std::size_t let_end(PoolFixture& fixture) {
    std::size_t ended = 0;
    for (;;) {
        const auto told = std::ranges::find_if(fixture.helpers,
                                               [](const auto& helper) { return helper->is_told_to_end(); });
        if (told == fixture.helpers.end()) return ended;
        fixture.end(**told);
        ++ended;
    }
}

}  // namespace

TEST_CASE("fair share: a user may take an eighth of what nobody has, and at least one") {
    CHECK(may_take(0, 0, 1));
    CHECK(may_take(0, 63, 64));
    CHECK_FALSE(may_take(0, 64, 64));
    CHECK_FALSE(may_take(0, 65, 64));
    CHECK(may_take(6, 6, 64));
    CHECK_FALSE(may_take(7, 7, 64));
    CHECK_FALSE(may_take(1, 57, 64));
    for (const std::uint64_t share : {1U, 4U, 16U, 1024U}) {
        std::uint64_t own = 0;
        while (may_take(own, own, total_for(share))) ++own;
        CHECK(own == share);
    }
}

TEST_CASE("fair share: 256 users leave full replies unread, and one more can be sent one") {
    constexpr std::size_t all = wanted_descriptors;
    UserQuotas quotas({}, all / 2);
    std::size_t on_their_way = 0;
    for (std::uint32_t uid = 1; uid <= greedy_users; ++uid) {
        UserQuota& quota = quotas.of(uid);
        for (; quotas.may_send_more(quota); on_their_way += proto::max_requests)
            quotas.sent(quota, proto::max_requests);
    }
    CHECK(quotas.may_send_more(quotas.of(newcomer)));
    CHECK(on_their_way + proto::max_requests <= all);
}

TEST_CASE("fair share: 256 users take all the snapshots that they can get, and one more gets one") {
    constexpr std::uint64_t snapshot = std::uint64_t{16} << 20;
    const policy::Limits limits;
    UserQuotas quotas(limits, 8000);
    const auto now = UserQuota::Clock::now();
    std::uint64_t first = 0, all = 0;
    for (std::uint32_t uid = 1; uid <= greedy_users; ++uid) {
        for (; quotas.use_copied_bytes(quotas.of(uid), snapshot, now); all += snapshot) {
            if (uid == 1) first += snapshot;
        }
    }
    // Whoever is alone has what the policy says.
    CHECK(first == limits.snapshot_bytes_per_second.burst);
    CHECK(all < 3 * total_for(limits.snapshot_bytes_per_second.burst));
    CHECK(quotas.use_copied_bytes(quotas.of(newcomer), snapshot, now));
}

TEST_CASE("fair share: 256 users keep all the streams that they can get, and one more gets one") {
    FDBROKER_SKIP_UNLESS(can_hold_descriptors(1024), "needs 1024 descriptors");
    PoolFixture fixture;
    CHECK(begin_all(fixture, 1) == max_background_helpers_of_user);
    std::size_t gave_way = 0;
    for (std::uint32_t uid = 2; uid <= greedy_users; ++uid) {
        CHECK(begin_all(fixture, uid) >= 1);
        gave_way += let_end(fixture);
    }
    CHECK(gave_way > 0);
    CHECK(fixture.pool->background() == max_background_helpers);
    CHECK(std::ranges::count(fixture.heard.ends, ECANCELED) == static_cast<std::ptrdiff_t>(gave_way));
    CHECK(fixture.given(fixture.submit(newcomer)).allows_background);
}

TEST_CASE("fair share: the stream that has rested for longest gives way, of the user who has most") {
    FDBROKER_SKIP_UNLESS(can_hold_descriptors(1024), "needs 1024 descriptors");
    PoolFixture fixture;
    const auto [first_number, first] = fixture.begin(1);
    const auto [second_number, second] = fixture.begin(1);
    CHECK(begin_all(fixture, 1) + 2 == max_background_helpers_of_user);
    std::uint32_t uid = 2;
    while (fixture.pool->background() < max_background_helpers) begin_all(fixture, uid++);
    // Something goes through the oldest one.
    fixture.log_stderr(*first, write_moved());
    // A task that leaves nothing going on costs nobody anything.
    const std::uint64_t passing = fixture.submit(newcomer);
    const auto taken = fixture.given(passing);
    CHECK(taken.allows_background);
    fixture.report(*taken.helper, passing);
    fixture.log_stderr(*taken.helper, write_sent({.job = passing, .descriptors = 1}));
    fixture.log_stderr(*taken.helper, write_idle());
    CHECK_FALSE(second->is_told_to_end());
    fixture.begin(newcomer);
    CHECK_FALSE(first->is_told_to_end());
    CHECK(second->is_told_to_end());
    CHECK(fixture.pool->can_continue(first_number, some_session));
    CHECK_FALSE(fixture.pool->can_continue(second_number, some_session));
    // A user who has one gets no further one at the cost of others.
    fixture.begin(newcomer + 1);
    CHECK_FALSE(fixture.given(fixture.submit(newcomer + 1)).allows_background);
    // A helper that does not end counts as stuck.
    fixture.loop.run_timers(Clock::now() + 2 * helper_close_timeout);
    CHECK(fixture.pool->stuck() > 0);
}

TEST_CASE("fair share: 256 users have all the helpers hang that they can get, and one more gets one") {
    FDBROKER_SKIP_UNLESS(can_hold_descriptors(4096), "needs 4096 descriptors");
    PoolFixture fixture;
    for (std::uint32_t uid = 1; uid <= greedy_users; ++uid) {
        for (std::size_t i = 0; i < max_helpers_of_user; ++i) fixture.make(uid);
        fixture.settle();
    }
    CHECK(fixture.pool->helpers() > max_helpers * 9 / 10);
    CHECK(fixture.pool->helpers() < max_helpers);
    for (const auto& helper : fixture.helpers) helper->take_job();
    const std::uint64_t number = fixture.submit(newcomer);
    CHECK(fixture.given(number).helper != nullptr);
}

TEST_CASE("fair share: 256 users have all the requests wait that they can, and one more is taken") {
    PoolFixture fixture;
    const auto submit_all = [&fixture](std::uint32_t uid) {
        std::size_t submitted = 0;
        for (; fixture.pool->has_room(uid, 1); ++submitted) fixture.make(uid);
        fixture.loop.run_timers(Clock::now());
        return submitted;
    };
    CHECK(submit_all(1) == max_helper_requests_of_user);
    for (std::uint32_t uid = 2; uid <= greedy_users; ++uid) CHECK(submit_all(uid) >= 1);
    CHECK(fixture.requests_in_flight() == max_helper_requests);
    CHECK(fixture.pool->has_room(newcomer, proto::max_requests));
    const std::uint64_t number = fixture.make(newcomer);
    fixture.loop.run_timers(Clock::now());
    CHECK(fixture.requests_in_flight() == max_helper_requests);
    CHECK_FALSE(fixture.heard.failures.contains(number));
    CHECK(std::ranges::all_of(fixture.heard.failures,
                              [](const auto& failure) { return failure.second == EAGAIN; }));
}
