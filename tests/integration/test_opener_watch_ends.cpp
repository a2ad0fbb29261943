// SPDX-License-Identifier: MIT
// Watches through a real opener to their ends: of themselves and at the hands of others.
#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <vector>

#include "opener/quota/helper_limits.hpp"
#include "tests/integration/watch_fixture.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::UniqueFd;

TEST_CASE("watch: a watch ends with its session, and its helper with the descriptor") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    std::optional<TestPeer> peer(opener.socket());
    {
        const auto watch = begin_watch(*peer, fixture.at("both/file"));
        REQUIRE(watch.status == 0);
        const auto helpers = helpers_of(opener.broker());
        REQUIRE(helpers.size() == 1);
        const UniqueFd end = end_of(helpers.front());
        peer.reset();
        wait_until_over(watch);
        wait_readable(end.borrow());
    }
    peer.emplace(opener.socket());
    auto watch = begin_watch(*peer, fixture.at("both/file"));
    const auto helpers = helpers_of(opener.broker());
    REQUIRE(helpers.size() == 1);
    const UniqueFd end = end_of(helpers.front());
    watch.fd.reset();
    wait_readable(end.borrow());
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a user has so many, each that is closed makes room, and another has their own") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("both/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    for (unsigned time = 0; time < 3; ++time) {
        std::vector<TestPeer::Answer> watches;
        const Deadline deadline = in_good_time();
        // The helpers of those closed before may take a moment to end.
        while (watches.size() < opener::max_background_helpers_of_user && milliseconds_until(deadline) > 0) {
            auto watch = begin_watch(peer, path);
            if (watch.status == 0) watches.push_back(std::move(watch));
        }
        REQUIRE(watches.size() == opener::max_background_helpers_of_user);
        const auto refused = begin_watch(peer, path);
        CHECK(refused.status == EAGAIN);
        CHECK(refused.reason.find("watched") != std::string::npos);
        run_as(other_user, [&] {
            TestPeer other(opener.socket());
            CHECK(begin_watch(other, path).status == 0);
        });
        append(path, "more");
        for (const auto& watch : watches) CHECK(told(watch) == watch_content);
    }
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: another policy ends all, and the broker does not live on for them") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, fixture.at("both/file"));
    const UniqueFd before = end_of(opener.broker());
    opener.process().signal(SIGHUP);
    wait_until_over(watch);
    wait_readable(before.borrow());
    const auto next = begin_watch(peer, fixture.at("both/file"));
    append(fixture.at("both/file"), "more");
    CHECK(told(next) == watch_content);
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
    wait_until_over(next);
}

TEST_CASE("watch: a broker that is killed takes its watches along") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, fixture.at("both/file"));
    ::kill(opener.broker(), SIGKILL);
    wait_until_over(watch);
    opener.wait_for_event("start", 2);
    CHECK(begin_watch(peer, fixture.at("both/file")).status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a helper that is killed ends its watch, which is on record, and nothing else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, fixture.at("both/file"));
    append(fixture.at("both/file"), "more");
    CHECK(told(watch) == watch_content);
    for (const pid_t helper : helpers_of(opener.broker())) ::kill(helper, SIGKILL);
    CHECK(told(watch) == 0);
    opener.wait_for_event("transfer-failed");
    CHECK(begin_watch(peer, fixture.at("both/file")).status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a directory that is removed or moved ends the watches of names in it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string directory = fixture.at("both/sub");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    make_directory(directory);
    const auto missing = begin_watch(peer, directory + "/missing");
    REQUIRE(missing.status == 0);
    std::filesystem::remove(directory);
    CHECK(told(missing) == 0);
    make_directory(directory);
    write_file(directory + "/file", "");
    const auto moved = begin_watch(peer, directory + "/file");
    std::filesystem::rename(directory, directory + "2");
    CHECK(told(moved) == watch_all);
    CHECK(told(moved) == 0);
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: an opener that is not root's watches that user's files") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory(TempDir::Place::var_tmp);
    REQUIRE(::chown(directory.path().c_str(), some_user, some_user) == 0);
    write_file(directory / "mine", "old", {.mode = 0600, .uid = some_user, .gid = some_user});
    write_file(directory / "unreadable", "old", {.mode = 0200, .uid = some_user, .gid = some_user});
    run_as(some_user, [&] {
        RunningOpener opener(directory, "version: 1\nrules:\n  - {name: all, allow: [stat], paths: [\"" +
                                            directory.path().string() + "/**\"]}\n");
        TestPeer peer(opener.socket());
        for (const char* name : {"mine", "unreadable"}) {
            CAPTURE(name);
            const auto watch = begin_watch(peer, directory / name);
            REQUIRE(watch.status == 0);
            append(directory / name, "more");
            CHECK(told(watch) == watch_content);
        }
        CHECK(opener.stop() == 0);
    });
}
