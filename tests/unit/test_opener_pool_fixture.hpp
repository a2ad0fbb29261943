// SPDX-License-Identifier: MIT
// A HelperPool with the test as its zygote and as its helpers, honest ones and others.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opener/helpers/helper_pool.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using namespace std::chrono_literals;
using proto::BorrowedFd;
using proto::UniqueFd;
using Clock = HelperPool::Clock;

inline constexpr ConnectionId some_session = 7;

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

// The pool's reports, by the number of the task.
struct Heard final : HelperPool::Owner {
    Pair connection{};
    std::map<std::uint64_t, Sent> sent{};
    std::map<std::uint64_t, int> failures{};
    std::vector<int> ends{};
    std::size_t events = 0;  // helpers that were left behind or came back
    bool may_leave = true;
    // The session that ends when it is told of a failure, as one does whose peer has gone.
    HelperPool* pool = nullptr;
    std::optional<ConnectionId> ends_by_failure{};
    bool over_budget = false;

    BorrowedFd connection_of(const HelperTask&) override { return connection.test.borrow(); }
    Verdict reported(HelperTask&, const Report& report) override {
        return {.job = report.job,
                .over_budget = over_budget,
                .records =
                    std::vector<Recorded>(report.outcomes.size(), {.sequence = 1, .may_leave = may_leave})};
    }
    void delivered(HelperTask& task, const Sent& end) override { sent[task.number] = end; }
    void failed(HelperTask& task, int errno_value, const char*) override {
        failures[task.number] = errno_value;
        if (const auto session = std::exchange(ends_by_failure, std::nullopt)) pool->forget(*session);
    }
    void ended(const HeldUp& request, int errno_value) override {
        CHECK(request.path == "/file");
        ends.push_back(errno_value);
    }
    void left_behind(const HeldUp&, std::size_t) override { ++events; }
    void came_back(std::uint32_t, std::size_t) override { ++events; }
    void zygote_lost() override {}
};

// A helper played by the test: reads the pool's messages and answers them.
class FakeHelper {
  public:
    explicit FakeHelper(UniqueFd channel) : channel_(std::move(channel)) {}

    // nullopt: nothing has come.
    std::optional<Job> take_job() {
        proto::ReceivedDescriptors descriptors;
        const auto message = proto::receive(channel_.borrow(), buffer_, descriptors, proto::Wait::never);
        if (!message) {
            REQUIRE((would_block(message.error()) || is_told_to_end()));
            return std::nullopt;
        }
        CHECK(descriptors.count() == 1);
        const auto job = read_job(*message);
        REQUIRE(job);
        return job;
    }
    void report(std::uint64_t job, int errno_value = 0) {
        const Outcome outcome = errno_value == 0 ? Outcome{} : refused(proto::Step::deliver, errno_value, "");
        log_stderr(write_report(job, std::span(&outcome, 1), {}));
    }
    bool was_told_to_deliver() {
        const auto message = proto::receive(channel_.borrow(), buffer_, proto::Wait::never);
        REQUIRE(message);
        return !read_verdict(*message)->records.empty();
    }
    void log_stderr(const std::vector<std::byte>& message) {
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

struct PoolFixture {
    Heard heard{};
    Pair zygote{};
    EventLoop loop = EventLoop::create().value();
    std::unique_ptr<HelperPool> pool{};
    std::vector<std::unique_ptr<FakeHelper>> helpers{};
    int zygote_status = 0;  // answer to an order; not 0: no helper can be made
    std::size_t orders = 0;
    InflightLog inflight = InflightLog::create().value();
    // Never looked into.
    Session* const session = reinterpret_cast<Session*>(&heard);

    PoolFixture() {
        std::vector<UniqueFd> zygotes;
        zygotes.push_back(std::move(zygote.pool));
        pool = HelperPool::create(std::move(zygotes), loop, {}).value();
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
        auto task = make_task(pool->next_number(), policy::PeerIdentity{}, deadline, std::span(&request, 1));
        task->session = session;
        task->connection_id = some_session;
        task->uid = uid;
        task->continues = continues;
        task->parts.front().slot = &inflight.note_apart(1, 1);
        const std::uint64_t number = task->number;
        pool->submit(std::move(task));
        return number;
    }
    // Requests that the next generation would have to answer if this one died.
    std::size_t requests_in_flight() {
        return static_cast<std::size_t>(std::ranges::count_if(
            inflight.slots(), [](const InflightSlot& slot) { return slot.connection_id != 0; }));
    }
    // Until everything that was said has been heard.
    void settle() {
        for (int round = 0; round < 3; ++round) {
            loop.run_timers();
            make_helpers();
            loop.wait(EventLoop::Wait::never);
            loop.run_timers();
        }
    }
    // The helper that has got this task.
    struct Given {
        FakeHelper* helper = nullptr;
        bool allows_background = false;
    };
    Given given(std::uint64_t number) {
        for (const auto& helper : helpers) {
            const auto job = helper->take_job();
            if (!job) continue;
            REQUIRE(job->number == number);
            return {helper.get(), job->allows_background};
        }
        FAIL("no helper has got it");
        return {};
    }
    void report(FakeHelper& helper, std::uint64_t job, int errno_value = 0) {
        helper.report(job, errno_value);
        settle();
        CHECK(helper.was_told_to_deliver());
    }
    void log_stderr(FakeHelper& helper, const std::vector<std::byte>& message) {
        helper.log_stderr(message);
        settle();
    }
    // A task whose helper stays with it.
    std::pair<std::uint64_t, FakeHelper*> begin(std::uint32_t uid) {
        const std::uint64_t number = submit(uid);
        const auto [helper, allows_background] = given(number);
        REQUIRE(allows_background);
        report(*helper, number);
        log_stderr(*helper, write_sent({.job = number, .descriptors = 1, .in_background = true}));
        return {number, helper};
    }
    void end(FakeHelper& helper, int errno_value = 0) {
        helper.log_stderr(write_ended(errno_value));
        helper.end();
        settle();
        std::erase_if(helpers, [&](const auto& each) { return each.get() == &helper; });
    }
};

}  // namespace fdbroker::opener
