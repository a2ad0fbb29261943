// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "tests/support/descriptors.hpp"

namespace fdbroker::opener {

using namespace std::chrono_literals;
using proto::UniqueFd;
using Clock = EventLoop::Clock;
using Wait = EventLoop::Wait;

namespace {

struct Pair {
    UniqueFd one;
    UniqueFd other;
    Pair() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        one = UniqueFd(ends[0]);
        other = UniqueFd(ends[1]);
    }
    void write() const { REQUIRE(::write(other.number(), "x", 1) == 1); }
    void read() const {
        char byte = 0;
        REQUIRE(::read(one.number(), &byte, 1) == 1);
    }
};

const Clock::time_point start = Clock::time_point() + 1000s;

}  // namespace

TEST_CASE("event loop: a source is told of as long as it is readable, and its end unregisters it") {
    const auto before = test::DescriptorTable::now();
    {
        EventLoop loop = EventLoop::create().value();
        const Pair pair;
        int calls = 0;
        auto source = loop.watch(pair.one.borrow(), Events::readable, [&](Events events) {
            CHECK(has(events, Events::readable));
            ++calls;
        });
        REQUIRE(source);
        loop.wait(Wait::never);
        CHECK(calls == 0);
        pair.write();
        loop.wait(Wait::for_something);
        loop.wait(Wait::never);
        CHECK(calls == 2);
        source->end();
        CHECK_FALSE(*source);
        loop.wait(Wait::never);
        CHECK(calls == 2);
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("event loop: a source that rests is not told of a hang-up either, until it is set again") {
    EventLoop loop = EventLoop::create().value();
    Pair pair;
    int calls = 0;
    auto source = loop.watch(pair.one.borrow(), Events::readable, [&](Events) { ++calls; });
    for (int round = 1; round <= 2; ++round) {
        REQUIRE(source->set(Events::none));
        pair.other.reset();
        loop.wait(Wait::never);
        CHECK(calls == round - 1);
        REQUIRE(source->set(Events::readable));
        REQUIRE(source->set(Events::readable));
        loop.wait(Wait::never);
        CHECK(calls == round);
    }
}

TEST_CASE("event loop: an edge is told once, a state each time") {
    EventLoop loop = EventLoop::create().value();
    const Pair pair;
    int calls = 0;
    auto source = loop.watch(pair.one.borrow(), Events::writable | Events::edge, [&](Events) { ++calls; });
    for (int turn = 0; turn < 3; ++turn) loop.wait(Wait::never);
    CHECK(calls == 1);
    REQUIRE(source->set(Events::writable));
    for (int turn = 0; turn < 3; ++turn) loop.wait(Wait::never);
    CHECK(calls == 4);
}

TEST_CASE(
    "event loop: a callback that ends or silences another source keeps that one's event from being told") {
    for (const bool ends : {true, false}) {
        EventLoop loop = EventLoop::create().value();
        const Pair pairs[2];
        std::optional<Source> sources[2];
        int calls = 0;
        for (const int i : {0, 1}) {
            sources[i] = loop.watch(pairs[i].one.borrow(), Events::readable,
                                    [&, i](Events) {
                                        ++calls;
                                        if (ends)
                                            sources[1 - i].reset();
                                        else
                                            REQUIRE(sources[1 - i]->set(Events::none));
                                    })
                             .value();
            pairs[i].write();
        }
        loop.wait(Wait::never);
        CHECK(calls == 1);
    }
}

TEST_CASE("event loop: a callback may end its own source and watch another in its stead") {
    EventLoop loop = EventLoop::create().value();
    const Pair pair;
    std::string calls;
    Source source;
    source = loop.watch(pair.one.borrow(), Events::readable,
                        [&, name = std::string("first")](Events) {
                            source.end();
                            source = loop.watch(pair.one.borrow(), Events::readable,
                                                [&](Events) { calls += " second"; })
                                         .value();
                            calls += name;
                        })
                 .value();
    pair.write();
    loop.wait(Wait::never);
    CHECK(calls == "first");
    loop.wait(Wait::never);
    CHECK(calls == "first second");
}

TEST_CASE("event loop: a descriptor that cannot be watched is an error, and leaves nothing behind") {
    EventLoop loop = EventLoop::create().value();
    const UniqueFd directory(::open("/", O_RDONLY | O_CLOEXEC));
    const auto source = loop.watch(directory.borrow(), Events::readable, [](Events) {});
    REQUIRE_FALSE(source);
    CHECK(source.error().errno_value == EPERM);
}

TEST_CASE("event loop: timers that are due are run once, the earliest first") {
    EventLoop loop = EventLoop::create().value();
    std::string calls;
    Timer late = loop.timer([&](Clock::time_point now) {
        CHECK(now == start + 2s);
        calls += " late";
    });
    Timer early = loop.timer([&](Clock::time_point) { calls += " early"; });
    Timer later = loop.timer([&](Clock::time_point) { calls += " later"; });
    CHECK_FALSE(loop.next_timer());
    later.set(start + 3s);
    late.set(start + 2s);
    early.set(start + 5s);
    early.set_by(start + 1s);
    early.set_by(start + 4s);
    CHECK(loop.next_timer() == start + 1s);
    loop.run_timers(start + 2s);
    CHECK(calls == " early late");
    CHECK_FALSE(late.due());
    loop.run_timers(start + 2s);
    CHECK(calls == " early late");
    later.stop();
    CHECK_FALSE(loop.next_timer());
    loop.run_timers(start + 9s);
    CHECK(calls == " early late");
}

TEST_CASE("event loop: a timer that a callback sets, stops or ends is not run in the same turn") {
    EventLoop loop = EventLoop::create().value();
    int calls = 0;
    std::optional<Timer> own, stopped, postponed, ended;
    own = loop.timer([&](Clock::time_point now) {
        ++calls;
        own->set(now - 1s);
        stopped->stop();
        postponed->set(now + 1s);
        ended.reset();
    });
    const auto never = [](Clock::time_point) { FAIL("was stopped, postponed or ended"); };
    stopped = loop.timer(never);
    postponed = loop.timer(never);
    ended = loop.timer(never);
    own->set(start);
    for (std::optional<Timer>* other : {&stopped, &postponed, &ended}) (*other)->set(start + 1s);
    loop.run_timers(start + 1s);
    CHECK(calls == 1);
    CHECK(own->due() == start);
    CHECK(postponed->due() == start + 2s);
    CHECK_FALSE(stopped->due());
}

TEST_CASE("event loop: a timer may end itself, and a wait ends when one is due") {
    EventLoop loop = EventLoop::create().value();
    std::string calls;
    std::optional<Timer> timer;
    timer = loop.timer([&, name = std::string("called")](Clock::time_point) {
        timer.reset();
        calls += name;
    });
    timer->set_after(1ms);
    while (calls.empty()) {
        loop.wait(Wait::for_something);
        loop.run_timers();
    }
    CHECK(calls == "called");
    CHECK_FALSE(loop.next_timer());
}

}  // namespace fdbroker::opener
