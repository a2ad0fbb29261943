// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <sched.h>

#include "opener/broker/busy_wait.hpp"
#include "proto/message.hpp"

using namespace fdbroker;
using opener::BusyWait;
using std::chrono::microseconds;

namespace {

constexpr microseconds limit = proto::max_busy_poll;
constexpr unsigned often = 10'000;  // more than a disturbed machine may need

// Messages from that CPU, each of them there as soon as the broker waits.
void ask_without_pause(BusyWait& waiting, std::uint16_t cpu, unsigned times) {
    for (; times > 0 && waiting.counts().awake == 0; --times) {
        waiting.asked(cpu);
        waiting.wait([] { return true; }, [] {});
    }
}

}  // namespace

TEST_CASE(
    "wait history: waits are expected to be short after some short ones, and no more after a long one") {
    proto::WaitHistory history(microseconds(20));
    CHECK_FALSE(history.are_short());
    history.add(microseconds(5));
    CHECK_FALSE(history.are_short());
    history.add(microseconds(19));
    CHECK(history.are_short());
    history.add(microseconds(20));
    CHECK_FALSE(history.are_short());
    SUBCASE("many short waits outlast a few long ones") {
        for (int i = 0; i < 100; ++i) history.add(microseconds(1));
        for (int i = 0; i < 4; ++i) history.add(microseconds(50));
        CHECK(history.are_short());
        history.add(microseconds(50));
        CHECK_FALSE(history.are_short());
    }
    SUBCASE("short and long waits that take turns are not worth it") {
        for (int i = 0; i < 100; ++i) {
            history.add(microseconds(i % 2 == 0 ? 1 : 50));
            CHECK_FALSE(history.are_short());
        }
    }
    SUBCASE("nothing is short where the limit is 0") {
        proto::WaitHistory never{microseconds(0)};
        for (int i = 0; i < 100; ++i) never.add({});
        CHECK_FALSE(never.are_short());
    }
}

TEST_CASE("busy wait: the broker stays awake for peers on other CPUs that ask in quick succession") {
    BusyWait waiting(limit);
    ask_without_pause(waiting, proto::unknown_cpu, often);
    CHECK(waiting.counts().awake == 1);
    CHECK(waiting.counts().asleep >= 2);
}

TEST_CASE("busy wait: the broker sleeps at once after anything that no peer asked for") {
    BusyWait waiting(limit);
    ask_without_pause(waiting, proto::unknown_cpu, often);
    const auto before = waiting.counts();
    bool looked = false;
    waiting.wait(
        [&] {
            looked = true;
            return true;
        },
        [] {});
    CHECK_FALSE(looked);
    CHECK(waiting.counts().asleep == before.asleep + 1);
}

TEST_CASE(
    "busy wait: a broker that looked in vain sleeps in the same wait, and does not look again in the next") {
    BusyWait waiting(limit);
    ask_without_pause(waiting, proto::unknown_cpu, often);
    unsigned looks = 0;
    unsigned sleeps = 0;
    const auto wait = [&] {
        waiting.asked(proto::unknown_cpu);
        waiting.wait(
            [&] {
                ++looks;
                return false;
            },
            [&] { ++sleeps; });
    };
    wait();
    CHECK(looks > 0);
    CHECK(sleeps == 1);
    const unsigned looked = looks;
    wait();
    CHECK(looks == looked);
    CHECK(sleeps == 2);
}

TEST_CASE("busy wait: the broker never looks for a peer on its own CPU, nor where the limit is 0") {
    cpu_set_t everywhere, here;
    REQUIRE(::sched_getaffinity(0, sizeof everywhere, &everywhere) == 0);
    const int cpu = ::sched_getcpu();
    CPU_ZERO(&here);
    CPU_SET(static_cast<unsigned>(cpu), &here);
    REQUIRE(::sched_setaffinity(0, sizeof here, &here) == 0);
    BusyWait waiting(limit);
    ask_without_pause(waiting, static_cast<std::uint16_t>(cpu), often);
    CHECK(waiting.counts().awake == 0);
    CHECK(waiting.counts().asleep == often);
    CHECK(::sched_setaffinity(0, sizeof everywhere, &everywhere) == 0);
    BusyWait off{microseconds(0)};
    ask_without_pause(off, proto::unknown_cpu, often);
    CHECK(off.counts().awake == 0);
    CHECK(off.counts().asleep == often);
}
