// The broker's end of helpers, with this test as their zygote and as the helpers, honest ones and others.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "opener/helpers/helper_pool.hpp"
#include "proto/channel.hpp"
#include "tests/support/descriptors.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace std::chrono_literals;
using fdbroker::test::DescriptorTable;
using proto::BorrowedFd;
using proto::UniqueFd;
using Clock = HelperPool::Clock;

namespace {

constexpr Token some_session = 7;

struct Pair {
    UniqueFd pool;
    UniqueFd test;
    Pair() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        pool = UniqueFd(ends[0]);
        test = UniqueFd(ends[1]);
    }
};

// What the pool said of each task, by its number.
struct Heard final : HelperPool::Owner {
    Pair connection{};
    std::map<std::uint64_t, Sent> sent{};
    std::map<std::uint64_t, int> failures{};
    std::vector<int> ends{};
    std::size_t events = 0;  // of helpers that were left behind or came back
    bool may_leave = true;
    // The session that ends when it is told of a failure, as one does whose peer has gone.
    HelperPool* pool = nullptr;
    const Session* ends_by_failure = nullptr;
    bool over_budget = false;

    BorrowedFd connection_of(const HelperTask&) override { return connection.test.borrow(); }
    std::vector<Ruling> reported(HelperTask&, const Report& report) override {
        return std::vector<Ruling>(report.outcomes.size(),
                                   {.record = 1, .may_leave = may_leave, .over_budget = over_budget});
    }
    void delivered(HelperTask& task, const Sent& end) override { sent[task.number] = end; }
    void failed(HelperTask& task, int errno_value, const char*) override {
        failures[task.number] = errno_value;
        if (const Session* const session = std::exchange(ends_by_failure, nullptr)) pool->forget(*session);
    }
    void ended(const HeldUp& request, int errno_value) override {
        CHECK(request.path == "/file");
        ends.push_back(errno_value);
    }
    void left_behind(const HeldUp&, std::size_t) override { ++events; }
    void came_back(std::uint32_t, std::size_t) override { ++events; }
    void zygote_lost() override {}
};

// What a helper gets from the pool, and what it answers.
class FakeHelper {
  public:
    explicit FakeHelper(UniqueFd channel) : channel_(std::move(channel)) {}

    // nullopt: nothing has come.
    std::optional<Job> take_job() {
        proto::ReceivedDescriptors descriptors;
        const auto message = proto::receive(channel_.borrow(), buffer_, descriptors, proto::Wait::never);
        if (!message) {
            REQUIRE(would_block(message.error()));
            return std::nullopt;
        }
        CHECK(descriptors.count() == 1);
        const auto job = read_job(*message);
        REQUIRE(job);
        return job;
    }
    void report(std::uint64_t job, int errno_value = 0) {
        Report report{.job = job};
        report.outcomes.push_back({.errno_value = errno_value,
                                   .step = errno_value == 0 ? proto::Step::none : proto::Step::deliver});
        say(write_report(report));
    }
    bool was_told_to_deliver() {
        const auto message = proto::receive(channel_.borrow(), buffer_, proto::Wait::never);
        REQUIRE(message);
        return !read_verdict(*message)->rulings.empty();
    }
    void say(const std::vector<std::byte>& message) {
        REQUIRE(proto::send(channel_.borrow(), message, {}, proto::Wait::never));
    }
    bool is_told_to_end() {
        pollfd event{channel_.number(), POLLRDHUP, 0};
        return ::poll(&event, 1, 0) == 1;
    }
    bool is_let_go() {
        const auto message = proto::receive(channel_.borrow(), buffer_, proto::Wait::never);
        return !message && !would_block(message.error());
    }
    void end() { channel_.reset(); }

  private:
    UniqueFd channel_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(max_helper_message);
};

struct Fixture {
    Heard heard{};
    Pair zygote{};
    std::unique_ptr<HelperPool> pool{};
    std::vector<std::unique_ptr<FakeHelper>> helpers{};
    int zygote_status = 0;  // its answer to an order; not 0: it can make none
    std::size_t orders = 0;
    Journal journal = Journal::create().value();
    // Never looked into.
    Session* const session = reinterpret_cast<Session*>(&heard);

    Fixture() {
        std::vector<UniqueFd> zygotes;
        zygotes.push_back(std::move(zygote.pool));
        pool = HelperPool::create(std::move(zygotes)).value();
        pool->set_owner(heard);
    }

    // As a zygote does, for every order.
    void make_helpers() {
        for (;;) {
            std::array<std::byte, 1> order;
            if (!proto::receive(zygote.test.borrow(), order, proto::Wait::never)) return;
            ++orders;
            Pair channel;
            const BorrowedFd attached = channel.pool.borrow();
            REQUIRE(proto::send(zygote.test.borrow(), std::as_bytes(std::span(&zygote_status, 1)),
                                std::span(&attached, zygote_status == 0 ? 1 : 0), proto::Wait::never));
            if (zygote_status != 0) continue;
            helpers.push_back(std::make_unique<FakeHelper>(std::move(channel.test)));
        }
    }
    std::uint64_t submit(std::uint32_t uid, std::uint64_t continues = 0,
                         Clock::time_point deadline = Clock::now() + 1h) {
        const std::uint64_t number = make(uid, continues, deadline);
        settle();
        return number;
    }
    // The same, before it is given to anybody.
    std::uint64_t make(std::uint32_t uid, std::uint64_t continues = 0,
                       Clock::time_point deadline = Clock::now() + 1h) {
        const std::string path = "/file";
        const proto::Request request{.id = 1, .call = proto::Call::open, .path = path};
        auto task = make_task(pool->next_number(), "", deadline, std::span(&request, 1));
        task->session = session;
        task->token = some_session;
        task->uid = uid;
        task->continues = continues;
        task->parts.front().slot = &journal.note_apart(1, 1);
        const std::uint64_t number = task->number;
        pool->submit(std::move(task));
        return number;
    }
    // Until everything that was said has been heard.
    void settle() {
        for (int round = 0; round < 3; ++round) {
            pool->act_on_time(Clock::now());
            make_helpers();
            pool->serve();
        }
    }
    // The helper that has got this task.
    struct Given {
        FakeHelper* helper = nullptr;
        bool may_last = false;
    };
    Given given(std::uint64_t number) {
        for (const auto& helper : helpers) {
            const auto job = helper->take_job();
            if (!job) continue;
            REQUIRE(job->number == number);
            return {helper.get(), job->may_last};
        }
        FAIL("no helper has got it");
        return {};
    }
    void report(FakeHelper& helper, std::uint64_t job, int errno_value = 0) {
        helper.report(job, errno_value);
        settle();
        CHECK(helper.was_told_to_deliver());
    }
    void say(FakeHelper& helper, const std::vector<std::byte>& message) {
        helper.say(message);
        settle();
    }
    // A task whose helper stays with it.
    std::pair<std::uint64_t, FakeHelper*> begin(std::uint32_t uid) {
        const std::uint64_t number = submit(uid);
        const auto [helper, may_last] = given(number);
        REQUIRE(may_last);
        report(*helper, number);
        say(*helper, write_sent({.job = number, .descriptors = 1, .lasts = true}));
        return {number, helper};
    }
    void end(FakeHelper& helper, int errno_value = 0) {
        helper.say(write_ended(errno_value));
        helper.end();
        settle();
        std::erase_if(helpers, [&](const auto& each) { return each.get() == &helper; });
    }
};

}  // namespace

TEST_CASE(
    "helper pool: one that stays with its task is not of those that work, and is forgotten when it ends") {
    const auto before = DescriptorTable::now();
    {
        Fixture fixture;
        const auto [number, helper] = fixture.begin(1);
        CHECK(fixture.heard.sent[number].descriptors == 1);
        CHECK(fixture.pool->lasting() == 1);
        CHECK(fixture.pool->helpers() == 0);
        CHECK(fixture.pool->unfinished() == 0);
        CHECK(fixture.pool->stuck() == 0);
        // It has all the time there is.
        CHECK_FALSE(fixture.pool->due());
        // What comes next is another's.
        const std::uint64_t next = fixture.submit(1);
        CHECK(fixture.given(next).helper != helper);
        fixture.end(*helper, ENOSPC);
        CHECK(fixture.heard.ends == std::vector{ENOSPC});
        CHECK(fixture.pool->lasting() == 0);
        CHECK(fixture.pool->counters().lost == 0);
        // One that dies has done nothing to the end.
        const auto second = fixture.begin(1);
        second.second->end();
        fixture.settle();
        CHECK(fixture.heard.ends == std::vector{ENOSPC, EIO});
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("helper pool: one that dies before it tells whether what was granted has left is told of") {
    Fixture fixture;
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
    Fixture fixture;
    std::vector<FakeHelper*> lasting;
    for (std::size_t i = 0; i < most_lasting_helpers_of_user; ++i) lasting.push_back(fixture.begin(1).second);
    const std::uint64_t refused = fixture.submit(1);
    const auto [helper, may_last] = fixture.given(refused);
    CHECK_FALSE(may_last);
    fixture.report(*helper, refused, EAGAIN);
    fixture.say(*helper, write_sent({.job = refused}));
    fixture.say(*helper, write_idle());
    fixture.begin(2);
    fixture.end(*lasting.front());
    fixture.begin(1);
    CHECK(fixture.pool->lasting() == most_lasting_helpers_of_user + 1);
}

TEST_CASE("helper pool: a task that may yet last has its place kept, and only as long as it is not done") {
    Fixture fixture;
    for (std::size_t i = 0; i + 1 < most_lasting_helpers_of_user; ++i) fixture.begin(1);
    const std::uint64_t last = fixture.submit(1);
    const auto taken = fixture.given(last);
    CHECK(taken.may_last);
    const std::uint64_t next = fixture.submit(1);
    const auto without = fixture.given(next);
    CHECK_FALSE(without.may_last);
    fixture.report(*taken.helper, last, ENOENT);
    fixture.say(*taken.helper, write_sent({.job = last}));
    fixture.say(*taken.helper, write_idle());
    fixture.begin(1);
}

TEST_CASE("helper pool: all users together have a limit of lasting helpers") {
    Fixture fixture;
    for (std::size_t i = 0; i < most_lasting_helpers; ++i)
        fixture.begin(static_cast<std::uint32_t>(i / most_lasting_helpers_of_user));
    CHECK(fixture.pool->lasting() == most_lasting_helpers);
    CHECK_FALSE(fixture.given(fixture.submit(99)).may_last);
}

TEST_CASE("helper pool: a helper that lasts without leave, or delivers what nobody granted, is let go") {
    Fixture fixture;
    const auto check_let_go = [&](FakeHelper& helper, std::uint64_t number) {
        CHECK(helper.is_let_go());
        CHECK(fixture.heard.failures[number] == EIO);
        CHECK(fixture.heard.sent.count(number) == 0);
        CHECK(fixture.pool->unfinished() == 0);
        std::erase_if(fixture.helpers, [&](const auto& each) { return each.get() == &helper; });
    };
    SUBCASE("more descriptors than grants") {
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number);
        fixture.say(helper, write_sent({.job = number, .descriptors = 2}));
        check_let_go(helper, number);
    }
    SUBCASE("a descriptor for a refusal") {
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number, EACCES);
        fixture.say(helper, write_sent({.job = number, .descriptors = 1}));
        check_let_go(helper, number);
    }
    SUBCASE("a descriptor for a grant that is not on record") {
        fixture.heard.may_leave = false;
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number);
        fixture.say(helper, write_sent({.job = number, .descriptors = 1}));
        check_let_go(helper, number);
    }
    SUBCASE("a descriptor of a copy that there is no budget for") {
        fixture.heard.over_budget = true;
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number);
        fixture.say(helper, write_sent({.job = number, .descriptors = 1}));
        check_let_go(helper, number);
    }
    SUBCASE("no place for what lasts") {
        for (std::size_t i = 0; i < most_lasting_helpers_of_user; ++i) fixture.begin(1);
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.report(helper, number);
        fixture.say(helper, write_sent({.job = number, .descriptors = 1, .lasts = true}));
        check_let_go(helper, number);
        CHECK(fixture.pool->lasting() == most_lasting_helpers_of_user);
    }
    SUBCASE("what lasts turns out to be idle") {
        const auto [number, helper] = fixture.begin(1);
        fixture.say(*helper, write_idle());
        CHECK(helper->is_let_go());
        CHECK(fixture.heard.ends == std::vector{EIO});
        CHECK(fixture.pool->lasting() == 0);
    }
    SUBCASE("what lasted turns out to be idle") {
        const auto [number, helper] = fixture.begin(1);
        const std::uint64_t last = fixture.submit(1, number);
        CHECK(fixture.given(last).helper == helper);
        fixture.report(*helper, last);
        fixture.say(*helper, write_sent({.job = last}));
        fixture.say(*helper, write_idle());
        CHECK(helper->is_let_go());
        CHECK(fixture.pool->lasting() == 0);
    }
    SUBCASE("an end of what does not last") {
        const std::uint64_t number = fixture.submit(1);
        FakeHelper& helper = *fixture.given(number).helper;
        fixture.say(helper, write_ended(0));
        check_let_go(helper, number);
    }
}

TEST_CASE("helper pool: one that lasts is told once to end, and is there until it has") {
    Fixture fixture;
    const auto [number, helper] = fixture.begin(1);
    const std::uint64_t other = fixture.submit(1);
    FakeHelper& at_work = *fixture.given(other).helper;
    CHECK_FALSE(helper->is_told_to_end());
    CHECK(fixture.pool->end_lasting());
    CHECK_FALSE(fixture.pool->end_lasting());
    CHECK(helper->is_told_to_end());
    CHECK_FALSE(at_work.is_told_to_end());
    fixture.settle();
    CHECK(fixture.pool->lasting() == 1);
    fixture.end(*helper);
    CHECK(fixture.pool->lasting() == 0);
    CHECK(fixture.heard.ends == std::vector{0});
}

TEST_CASE("helper pool: what goes on takes further tasks, one at a time, each with an end of its own") {
    Fixture fixture;
    const auto [number, helper] = fixture.begin(1);
    CHECK_FALSE(fixture.pool->can_continue(number + 1, some_session));
    CHECK_FALSE(fixture.pool->can_continue(0, some_session));
    CHECK_FALSE(fixture.pool->can_continue(number, some_session + 1));
    for (int round = 0; round < 2; ++round) {
        const std::array both{fixture.submit(1, number), fixture.submit(1, number)};
        for (const std::uint64_t next : both) {
            CHECK(fixture.given(next).helper == helper);
            CHECK_FALSE(helper->take_job());
            CHECK(fixture.pool->due());
            fixture.report(*helper, next);
            fixture.say(*helper, write_sent({.job = next, .lasts = true}));
            CHECK(fixture.heard.sent.count(next) == 1);
            CHECK(fixture.pool->lasting() == 1);
        }
    }
    const std::uint64_t last = fixture.submit(1, number);
    const std::uint64_t late = fixture.submit(1, number);
    CHECK(fixture.given(last).helper == helper);
    SUBCASE("the last one leaves nothing to go on with, though it is not gone yet") {
        fixture.report(*helper, last);
        fixture.say(*helper, write_sent({.job = last}));
        CHECK(fixture.heard.sent.count(last) == 1);
        CHECK_FALSE(fixture.pool->can_continue(number, some_session));
        CHECK(fixture.pool->lasting() == 1);
        fixture.end(*helper);
        CHECK(fixture.heard.ends == std::vector{0});
    }
    SUBCASE("the one that it dies over is lost like any other") {
        helper->end();
        fixture.settle();
        CHECK(fixture.heard.failures[last] == EIO);
    }
    CHECK(fixture.heard.failures[late] == ESTALE);
    CHECK(fixture.pool->lasting() == 0);
    CHECK(fixture.pool->unfinished() == 0);
    CHECK_FALSE(fixture.pool->can_continue(number, some_session));
}

TEST_CASE("helper pool: what is given to a helper that is done, and that it does not take, was not begun") {
    Fixture fixture;
    const auto [number, helper] = fixture.begin(1);
    const std::uint64_t last = fixture.submit(1, number);
    // It leaves a message unread.
    fixture.end(*helper);
    CHECK(fixture.heard.failures[last] == ESTALE);
    CHECK(fixture.heard.ends == std::vector{0});
    CHECK(fixture.pool->counters().lost == 0);
    CHECK(fixture.pool->lasting() == 0);
}

TEST_CASE(
    "helper pool: no more records come of what is begun than it says, though a helper hangs again and "
    "again") {
    Fixture fixture;
    const auto [number, helper] = fixture.begin(1);
    std::vector<std::uint64_t> tasks;
    auto deadline = Clock::now();
    for (int i = 0; i < 8; ++i) tasks.push_back(fixture.submit(1, number, deadline += 1h));
    const std::size_t most = fixture.pool->most_records();
    deadline -= 8h;
    for (const std::uint64_t task : tasks) {
        CHECK(fixture.given(task).helper == helper);
        fixture.pool->act_on_time(deadline += 1h);
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
    Fixture fixture;
    const std::uint64_t number = fixture.submit(1);
    FakeHelper& helper = *fixture.given(number).helper;
    CHECK_FALSE(fixture.pool->can_continue(number, some_session));
    fixture.report(helper, number);
    CHECK_FALSE(fixture.pool->can_continue(number, some_session + 1));
    REQUIRE(fixture.pool->can_continue(number, some_session));
    const std::uint64_t next = fixture.submit(1, number);
    SUBCASE("it lasts") {
        fixture.say(helper, write_sent({.job = number, .descriptors = 1, .lasts = true}));
        CHECK(fixture.given(next).helper == &helper);
    }
    SUBCASE("it does not") {
        fixture.say(helper, write_sent({.job = number, .descriptors = 1}));
        CHECK(fixture.heard.failures[next] == ESTALE);
    }
    SUBCASE("its session ends first") {
        fixture.pool->forget(*fixture.session);
        CHECK(fixture.heard.failures[next] == ECANCELED);
    }
    SUBCASE("nobody waits for helpers any longer") {
        fixture.pool->abandon(ECANCELED, "the opener stops");
        CHECK(fixture.heard.failures[next] == ECANCELED);
        CHECK(fixture.heard.failures[number] == ECANCELED);
    }
    SUBCASE("it is not told of in time") {
        fixture.pool->act_on_time(Clock::now() + 2h);
        CHECK(fixture.heard.failures[next] == ETIMEDOUT);
    }
}

TEST_CASE("helper pool: a session that ends while its tasks are given away has none given away any more") {
    Fixture fixture;
    const auto [first, first_helper] = fixture.begin(1);
    const auto [second, second_helper] = fixture.begin(1);
    fixture.heard.pool = fixture.pool.get();
    fixture.heard.ends_by_failure = fixture.session;
    // Both are to be given away at once, and the pool finds out about the one helper as it does.
    first_helper->say(write_ended(0));
    first_helper->end();
    const std::array tasks{fixture.make(1, first), fixture.make(1, second)};
    fixture.settle();
    CHECK(fixture.heard.failures[tasks[0]] == ESTALE);
    CHECK(fixture.heard.failures[tasks[1]] == ECANCELED);
    CHECK_FALSE(second_helper->take_job());
    CHECK(fixture.heard.ends == std::vector{0});
    CHECK(fixture.pool->lasting() == 1);
    CHECK(fixture.pool->unfinished() == 0);
}

TEST_CASE("helper pool: where no helper can be made, one that lasts is none to wait for") {
    Fixture fixture;
    fixture.begin(1);
    fixture.zygote_status = EAGAIN;
    CHECK(fixture.heard.failures[fixture.submit(1)] == EAGAIN);
    CHECK(fixture.pool->unfinished() == 0);
    CHECK(fixture.pool->lasting() == 1);
    // It is another matter where one may become free.
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
    CHECK(fixture.pool->due() <= Clock::now() + helper_order_interval);
}

TEST_CASE("helper pool: the numbers of two pools are not alike") {
    Fixture one, other;
    CHECK(one.pool->next_number() != other.pool->next_number());
}
