// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "worker/client/busy_wait.hpp"

using fdbroker::worker::BusyWait;
using std::chrono::microseconds;

namespace {

// A program and its broker, on a clock of their own.
class Talk {
  public:
    explicit Talk(microseconds limit) : wait_(limit) {}

    // Thinks, asks, and is answered after `answer` microseconds; returns how long the wait may have been awake.
    BusyWait::Duration ask(int think, int answer) {
        now_ += microseconds(think);
        wait_.ask(now_);
        const auto budget = wait_.look_until() - wait_.asked_at();
        now_ += microseconds(answer);
        wait_.answered(now_);
        return budget;
    }
    // The waits that might have been awake, of so many.
    int awake(int times, int think, int answer) {
        int count = 0;
        for (; times > 0; --times) count += ask(think, answer) != BusyWait::Duration(0) ? 1 : 0;
        return count;
    }
    void disturb() { wait_.disturbed(); }

  private:
    BusyWait wait_;
    BusyWait::Clock::time_point now_{std::chrono::hours(1)};
};

}  // namespace

TEST_CASE("client wait: a program that asks now and then sleeps at once") {
    Talk talk(microseconds(20));
    CHECK(talk.awake(1000, 100, 5) == 0);
}

TEST_CASE(
    "client wait: a program that asks in quick succession waits awake, longer until the broker is awake as "
    "well") {
    Talk talk(microseconds(20));
    CHECK(talk.awake(4, 1, 50) <= 1);
    CHECK(talk.ask(1, 5) == microseconds(200));
    CHECK(talk.ask(1, 5) == microseconds(200));
    CHECK(talk.awake(1000, 1, 5) == 1000);
    CHECK(talk.ask(1, 5) == microseconds(20));
}

TEST_CASE("client wait: a broker that stays slow is waited for awake ever more rarely") {
    Talk talk(microseconds(20));
    CHECK(talk.awake(100, 1, 50) <= 16);
    CHECK(talk.awake(10'000, 1, 50) <= 80);
    CHECK(talk.awake(100'000, 1, 50) <= 250);
}

TEST_CASE("client wait: after other programs wanted the CPU, waits sleep for a while") {
    Talk talk(microseconds(20));
    talk.awake(100, 1, 5);
    talk.disturb();
    CHECK(talk.awake(60, 1, 5) == 0);
    CHECK(talk.awake(60, 1, 5) > 0);
}

TEST_CASE("client wait: with a limit of 0 every wait sleeps at once") {
    Talk talk(microseconds(0));
    CHECK(talk.awake(1000, 0, 0) == 0);
}
