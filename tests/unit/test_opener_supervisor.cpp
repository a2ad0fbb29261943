// SPDX-License-Identifier: MIT
// The small parts of the supervisor: delays between tries, and generations that were lost.
#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include "opener/base/backoff.hpp"
#include "opener/supervisor/broker_liveness.hpp"
#include "opener/supervisor/lost_generations.hpp"

using namespace fdbroker::opener;
using std::chrono::milliseconds;

TEST_CASE("backoff: each delay is twice the one before, up to the maximum, and a reset begins anew") {
    Backoff delay(milliseconds(50), milliseconds(300));
    CHECK(delay.last() == milliseconds(0));
    for (int round = 0; round < 2; ++round) {
        for (const int expected : {50, 100, 200, 300, 300}) {
            CHECK(delay.next() == milliseconds(expected));
            CHECK(delay.last() == milliseconds(expected));
        }
        delay.reset();
        CHECK(delay.last() == milliseconds(0));
    }
}

TEST_CASE(
    "broker liveness: a broker is silent after intervals without an answer, and an answer begins anew") {
    BrokerLiveness liveness;
    const auto intervals = BrokerLiveness::max_silence / liveness.interval();
    for (int round = 0; round < 2; ++round) {
        for (std::int64_t i = 0; i < intervals; ++i) CHECK_FALSE(liveness.is_silent());
        CHECK(liveness.is_silent());
        liveness.answered();
    }
    for (std::int64_t i = 0; i < intervals; ++i) CHECK_FALSE(liveness.is_silent());
    liveness.begin();
    CHECK_FALSE(liveness.is_silent());
}

TEST_CASE("lost generations: a generation that starts has the logs of all, and a successor their bytes") {
    LostGenerations lost;
    for (const std::uint32_t number : {3U, 4U}) {
        auto log = InflightLog::create();
        REQUIRE(log);
        InflightLog::note(*log->acquire(42), number);
        lost.add(number, std::make_unique<InflightLog>(std::move(*log)));
    }
    const auto logs = lost.inflight_logs();
    REQUIRE(logs.size() == 2);
    CHECK(logs[1].number == 4);
    CHECK(logs[1].inflight->entries()[0].ids[0] == 4);
    REQUIRE(lost.left().size() == 2);
    CHECK(lost.left()[0].generation == 3);
    CHECK(lost.left()[0].bytes == logs[0].inflight->bytes());
    // Nobody has been told of them, so that no ping's answer says anything of them.
    lost.answered(100);
    CHECK(lost.inflight_logs().size() == 2);
}
