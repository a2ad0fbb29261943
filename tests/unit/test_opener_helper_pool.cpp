// SPDX-License-Identifier: MIT
// The broker's end of helpers.
#include <doctest/doctest.h>

#include "tests/support/descriptors.hpp"
#include "tests/unit/test_opener_pool_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using fdbroker::test::DescriptorTable;

namespace {

// The helper that had the task is gone, and the task was answered.
void check_let_go(PoolFixture& fixture, FakeHelper& helper, std::uint64_t task) {
    CHECK(helper.is_let_go());
    CHECK(fixture.heard.failures[task] == EIO);
    CHECK(fixture.heard.sent.count(task) == 0);
    CHECK(fixture.requests_in_flight() == 0);
    std::erase_if(fixture.helpers, [&](const auto& each) { return each.get() == &helper; });
}

}  // namespace

TEST_CASE(
    "helper pool: one that stays with its task is not of those that work, and is forgotten when it ends") {
    const auto before = DescriptorTable::now();
    {
        PoolFixture fixture;
        const auto [number, helper] = fixture.begin(1);
        CHECK(fixture.heard.sent[number].descriptors == 1);
        CHECK(fixture.pool->background() == 1);
        CHECK(fixture.pool->helpers() == 0);
        CHECK(fixture.requests_in_flight() == 0);
        CHECK(fixture.pool->stuck() == 0);
        // The task has no deadline.
        CHECK_FALSE(fixture.loop.next_timer());
        // The next task belongs to another user.
        const std::uint64_t next = fixture.submit(1);
        CHECK(fixture.given(next).helper != helper);
        fixture.end(*helper, ENOSPC);
        CHECK(fixture.heard.ends == std::vector{ENOSPC});
        CHECK(fixture.pool->background() == 0);
        CHECK(fixture.pool->counters().lost == 0);
        // A helper that dies has finished nothing.
        const auto second = fixture.begin(1);
        second.second->end();
        fixture.settle();
        CHECK(fixture.heard.ends == std::vector{ENOSPC, EIO});
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("helper pool: a helper that dies before confirming a delivery is reported to the session") {
    PoolFixture fixture;
    const std::uint64_t number = fixture.submit(1);
    FakeHelper& helper = *fixture.given(number).helper;
    fixture.report(helper, number);
    helper.end();
    fixture.settle();
    CHECK(fixture.heard.failures[number] == EIO);
    CHECK(fixture.heard.ends == std::vector{EIO});
}

TEST_CASE(
    "helper pool: who has as many lasting helpers as a user may have gets no further one until one ends") {
    PoolFixture fixture;
    std::vector<FakeHelper*> background;
    for (std::size_t i = 0; i < max_background_helpers_of_user; ++i)
        background.push_back(fixture.begin(1).second);
    const std::uint64_t refused = fixture.submit(1);
    const auto [helper, allows_background] = fixture.given(refused);
    CHECK_FALSE(allows_background);
    fixture.report(*helper, refused, EAGAIN);
    fixture.log_stderr(*helper, write_sent({.job = refused}));
    fixture.log_stderr(*helper, write_idle());
    fixture.begin(2);
    fixture.end(*background.front());
    fixture.begin(1);
    CHECK(fixture.pool->background() == max_background_helpers_of_user + 1);
}

TEST_CASE("helper pool: a task that may yet last has its place kept, and only as long as it is not done") {
    PoolFixture fixture;
    for (std::size_t i = 0; i + 1 < max_background_helpers_of_user; ++i) fixture.begin(1);
    const std::uint64_t last = fixture.submit(1);
    const auto taken = fixture.given(last);
    CHECK(taken.allows_background);
    const std::uint64_t next = fixture.submit(1);
    const auto without = fixture.given(next);
    CHECK_FALSE(without.allows_background);
    fixture.report(*taken.helper, last, ENOENT);
    fixture.log_stderr(*taken.helper, write_sent({.job = last}));
    fixture.log_stderr(*taken.helper, write_idle());
    fixture.begin(1);
}

TEST_CASE("helper pool: a helper that lasts without leave, or delivers what nobody granted, is let go") {
    PoolFixture fixture;
    // A helper that reports this outcome, is told to deliver, and then tells how the delivery ended.
    const auto check_refused = [&](Sent said, int errno_value = 0) {
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number, errno_value);
        said.job = number;
        fixture.log_stderr(helper, write_sent(said));
        check_let_go(fixture, helper, number);
    };
    SUBCASE("more descriptors than grants") {
        check_refused({.descriptors = 2});
    }
    SUBCASE("a descriptor for a refusal") {
        check_refused({.descriptors = 1}, EACCES);
    }
    SUBCASE("a descriptor for a grant that is not on record") {
        fixture.heard.may_leave = false;
        check_refused({.descriptors = 1});
    }
    SUBCASE("a descriptor of a copy that there is no budget for") {
        fixture.heard.over_budget = true;
        check_refused({.descriptors = 1});
    }
    SUBCASE("no place for what lasts") {
        for (std::size_t i = 0; i < max_background_helpers_of_user; ++i) fixture.begin(1);
        check_refused({.descriptors = 1, .in_background = true});
        CHECK(fixture.pool->background() == max_background_helpers_of_user);
    }
    SUBCASE("the background work turns out to be idle") {
        const auto [number, helper] = fixture.begin(1);
        fixture.log_stderr(*helper, write_idle());
        CHECK(helper->is_let_go());
        CHECK(fixture.heard.ends == std::vector{EIO});
        CHECK(fixture.pool->background() == 0);
    }
    SUBCASE("the finished background work turns out to be idle") {
        const auto [number, helper] = fixture.begin(1);
        const std::uint64_t last = fixture.submit(1, number);
        CHECK(fixture.given(last).helper == helper);
        fixture.report(*helper, last);
        fixture.log_stderr(*helper, write_sent({.job = last}));
        fixture.log_stderr(*helper, write_idle());
        CHECK(helper->is_let_go());
        CHECK(fixture.pool->background() == 0);
    }
    SUBCASE("an end of what does not last") {
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.log_stderr(helper, write_ended(0));
        check_let_go(fixture, helper, number);
    }
}

TEST_CASE(
    "helper pool: one that lasts and does not end with its session, or as it has said, counts as stuck") {
    PoolFixture fixture;
    const auto [number, helper] = fixture.begin(1);
    SUBCASE("the session has ended") {
        fixture.pool->forget(some_session + 1);
        CHECK_FALSE(fixture.loop.next_timer());
        fixture.pool->forget(some_session);
    }
    SUBCASE("the session ends before the work goes to the background") {
        fixture.end(*helper);
        const std::uint64_t next = fixture.submit(1);
        FakeHelper& late = *fixture.given(next).helper;
        fixture.report(late, next);
        fixture.pool->forget(some_session);
        fixture.log_stderr(late, write_sent({.job = next, .descriptors = 1, .in_background = true}));
    }
    SUBCASE("the helper says that the work is done") {
        fixture.log_stderr(*helper, write_ended(0));
        CHECK_FALSE(fixture.pool->can_continue(number, some_session));
        CHECK_FALSE(helper->is_let_go());
    }
    REQUIRE(fixture.loop.next_timer());
    CHECK(*fixture.loop.next_timer() <= Clock::now() + helper_close_timeout);
    fixture.loop.run_timers(*fixture.loop.next_timer());
    CHECK(fixture.pool->stuck() == 1);
    CHECK(fixture.heard.events == 1);
    CHECK_FALSE(fixture.loop.next_timer());
    fixture.helpers.clear();
    fixture.settle();
    CHECK(fixture.pool->stuck() == 0);
    CHECK(fixture.heard.events == 2);
    CHECK(fixture.pool->background() == 0);
}

TEST_CASE("helper pool: a background helper is told once to end, and stays until it has ended") {
    PoolFixture fixture;
    const auto [number, helper] = fixture.begin(1);
    const std::uint64_t other = fixture.submit(1);
    FakeHelper& at_work = *fixture.given(other).helper;
    CHECK_FALSE(helper->is_told_to_end());
    CHECK(fixture.pool->end_background());
    CHECK_FALSE(fixture.pool->end_background());
    CHECK(helper->is_told_to_end());
    CHECK_FALSE(at_work.is_told_to_end());
    fixture.settle();
    CHECK(fixture.pool->background() == 1);
    fixture.end(*helper);
    CHECK(fixture.pool->background() == 0);
    CHECK(fixture.heard.ends == std::vector{0});
}

TEST_CASE("helper pool: background work takes further tasks one at a time, each with a separate end") {
    PoolFixture fixture;
    const auto [number, helper] = fixture.begin(1);
    CHECK_FALSE(fixture.pool->can_continue(number + 1, some_session));
    CHECK_FALSE(fixture.pool->can_continue(0, some_session));
    CHECK_FALSE(fixture.pool->can_continue(number, some_session + 1));
    for (int round = 0; round < 2; ++round) {
        const std::array both{fixture.submit(1, number), fixture.submit(1, number)};
        for (const std::uint64_t next : both) {
            CHECK(fixture.given(next).helper == helper);
            CHECK_FALSE(helper->take_job());
            CHECK(fixture.loop.next_timer());
            fixture.report(*helper, next);
            fixture.log_stderr(*helper, write_sent({.job = next, .in_background = true}));
            CHECK(fixture.heard.sent.count(next) == 1);
            CHECK(fixture.pool->background() == 1);
        }
    }
    const std::uint64_t last = fixture.submit(1, number);
    const std::uint64_t late = fixture.submit(1, number);
    CHECK(fixture.given(last).helper == helper);
    SUBCASE("the last one leaves nothing to go on with, though it is not gone yet") {
        fixture.report(*helper, last);
        fixture.log_stderr(*helper, write_sent({.job = last}));
        CHECK(fixture.heard.sent.count(last) == 1);
        CHECK_FALSE(fixture.pool->can_continue(number, some_session));
        CHECK(fixture.pool->background() == 1);
        fixture.end(*helper);
        CHECK(fixture.heard.ends == std::vector{0});
    }
    SUBCASE("the one that it dies over is lost like any other") {
        helper->end();
        fixture.settle();
        CHECK(fixture.heard.failures[last] == EIO);
    }
    CHECK(fixture.heard.failures[late] == ESTALE);
    CHECK(fixture.pool->background() == 0);
    CHECK(fixture.requests_in_flight() == 0);
    CHECK_FALSE(fixture.pool->can_continue(number, some_session));
}

TEST_CASE("helper pool: a task that an ending helper does not take counts as not begun") {
    PoolFixture fixture;
    const auto [number, helper] = fixture.begin(1);
    const std::uint64_t last = fixture.submit(1, number);
    // The helper leaves a message unread.
    fixture.end(*helper);
    CHECK(fixture.heard.failures[last] == ESTALE);
    CHECK(fixture.heard.ends == std::vector{0});
    CHECK(fixture.pool->counters().lost == 0);
    CHECK(fixture.pool->background() == 0);
}

TEST_CASE(
    "helper pool: no more records come of what is begun than it says, though a helper hangs again and "
    "again") {
    PoolFixture fixture;
    const auto [number, helper] = fixture.begin(1);
    std::vector<std::uint64_t> tasks;
    auto deadline = Clock::now();
    for (int i = 0; i < 8; ++i) tasks.push_back(fixture.submit(1, number, deadline += 1h));
    const std::size_t most = fixture.pool->max_records();
    deadline -= 8h;
    for (const std::uint64_t task : tasks) {
        CHECK(fixture.given(task).helper == helper);
        fixture.loop.run_timers(deadline += 1h);
        CHECK(fixture.pool->stuck() == 1);
        helper->report(task);
        fixture.settle();
        CHECK_FALSE(helper->was_told_to_deliver());
        CHECK(fixture.pool->stuck() == 0);
    }
    fixture.end(*helper, ENOSPC);
    CHECK(fixture.heard.failures.size() == tasks.size());
    CHECK(fixture.heard.failures.size() + fixture.heard.events + fixture.heard.ends.size() <= most);
}

TEST_CASE("helper pool: a peer that has its reply may go on with what its helper has not told of yet") {
    PoolFixture fixture;
    const std::uint64_t number = fixture.submit(1);
    FakeHelper& helper = *fixture.given(number).helper;
    CHECK_FALSE(fixture.pool->can_continue(number, some_session));
    fixture.report(helper, number);
    CHECK_FALSE(fixture.pool->can_continue(number, some_session + 1));
    REQUIRE(fixture.pool->can_continue(number, some_session));
    const std::uint64_t next = fixture.submit(1, number);
    SUBCASE("the work goes to the background") {
        fixture.log_stderr(helper, write_sent({.job = number, .descriptors = 1, .in_background = true}));
        CHECK(fixture.given(next).helper == &helper);
    }
    SUBCASE("the work ends at once") {
        fixture.log_stderr(helper, write_sent({.job = number, .descriptors = 1}));
        CHECK(fixture.heard.failures[next] == ESTALE);
    }
    SUBCASE("the session ends first") {
        fixture.pool->forget(some_session);
        CHECK(fixture.heard.failures[next] == ECANCELED);
    }
    SUBCASE("nobody waits for helpers any longer") {
        fixture.pool->abandon(ECANCELED, "the opener stops");
        CHECK(fixture.heard.failures[next] == ECANCELED);
        CHECK(fixture.heard.failures[number] == ECANCELED);
    }
    SUBCASE("the pool is not told in time") {
        fixture.loop.run_timers(Clock::now() + 2h);
        CHECK(fixture.heard.failures[next] == ETIMEDOUT);
    }
}

TEST_CASE("helper pool: a session that ends while its tasks are given away has none given away any more") {
    PoolFixture fixture;
    const auto [first, first_helper] = fixture.begin(1);
    const auto [second, second_helper] = fixture.begin(1);
    fixture.heard.pool = fixture.pool.get();
    fixture.heard.ends_by_failure = some_session;
    // Both are to be given away at once, and the pool finds out about the one helper as it does.
    first_helper->log_stderr(write_ended(0));
    first_helper->end();
    const std::array tasks{fixture.make(1, first), fixture.make(1, second)};
    fixture.settle();
    CHECK(fixture.heard.failures[tasks[0]] == ESTALE);
    CHECK(fixture.heard.failures[tasks[1]] == ECANCELED);
    CHECK_FALSE(second_helper->take_job());
    CHECK(fixture.heard.ends == std::vector{0});
    CHECK(fixture.pool->background() == 1);
    CHECK(fixture.requests_in_flight() == 0);
}

TEST_CASE("helper pool: where no helper can be made, one that lasts is none to wait for") {
    PoolFixture fixture;
    fixture.begin(1);
    fixture.zygote_status = EAGAIN;
    CHECK(fixture.heard.failures[fixture.submit(1)] == EAGAIN);
    CHECK(fixture.requests_in_flight() == 0);
    CHECK(fixture.pool->background() == 1);
    // The answer differs where a helper may become free.
    fixture.zygote_status = 0;
    const std::uint64_t working = fixture.submit(1);
    fixture.given(working);
    fixture.zygote_status = EAGAIN;
    const std::size_t before = fixture.orders;
    const auto since = Clock::now();
    const std::uint64_t waits = fixture.submit(1);
    CHECK(fixture.heard.failures.count(waits) == 0);
    // Nor is the zygote asked without a pause.
    for (int round = 0; round < 10; ++round) fixture.settle();
    CHECK(fixture.orders - before <=
          1 + static_cast<std::size_t>((Clock::now() - since) / helper_order_interval));
    CHECK(fixture.loop.next_timer() <= Clock::now() + helper_order_interval);
}

TEST_CASE(
    "helper pool: where the last zygote has gone, a task that waits is refused at once, as further ones "
    "are") {
    PoolFixture fixture;
    const std::uint64_t working = fixture.submit(1);
    const auto given = fixture.given(working);
    fixture.zygote.test.reset();
    const std::uint64_t waits = fixture.submit(1);
    // A helper is still there, and may become free.
    CHECK(fixture.heard.failures.count(waits) == 0);
    given.helper->end();
    fixture.settle();
    CHECK(fixture.heard.failures[working] == EIO);
    CHECK(fixture.heard.failures[waits] == EAGAIN);
    CHECK(fixture.heard.failures[fixture.submit(2)] == EAGAIN);
    CHECK(fixture.requests_in_flight() == 0);
}

TEST_CASE("helper pool: the numbers of two pools are not alike") {
    const PoolFixture one, other;
    CHECK(one.pool->next_number() != other.pool->next_number());
}
