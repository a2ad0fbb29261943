// SPDX-License-Identifier: MIT
// What users share: however much of it others keep, whoever comes is served.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/integration/streams_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// First uid of a range that no account has here.
constexpr uid_t first_uid = 3'000'000;

std::string cause_of_last(const std::vector<nlohmann::json>& records, std::string_view event) {
    std::string cause;
    for (const auto& record : records)
        if (record["event"] == event) cause = record["cause"].get<std::string>();
    return cause;
}

template <typename Count, typename Holds>
void wait_for_count(std::string_view of, const Count& count, const Holds& holds) {
    CAPTURE(of);
    const Deadline deadline = in_good_time();
    for (std::size_t found = count(); !holds(found); found = count()) {
        CAPTURE(found);
        REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
}

}  // namespace

TEST_CASE("shares: 256 users keep all the connections that they can get, and one more is served") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections_total: 100}\n");
    auto steady = peers_of(other_user, opener, 1);
    std::vector<TestPeer> kept;
    for (uid_t uid = first_uid; uid < first_uid + 256; ++uid) {
        for (TestPeer& peer : peers_of(uid, opener, 3)) kept.push_back(std::move(peer));
        // Whoever uses a connection keeps it.
        CHECK(steady.front().open(fixture.file).status == 0);
    }
    auto newcomer = peers_of(first_uid + 256, opener, 1);
    CHECK(newcomer.front().open(fixture.file).status == 0);
    // A newcomer takes the place of a connection of the user who has most: the very first user had several.
    CHECK(kept.front().wait_for_end() ==
          "of its user's connections it was silent for longest, and others need the place");
    kept.clear();
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "shares: a newcomer to a table full of connections that wait for their names has one of them give way") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile fixture;
    constexpr std::size_t total = 16;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections_total: 16}\n");
    auto names = children_of(opener.process().pid());
    std::erase(names, opener.broker());
    REQUIRE(names.size() == 1);
    HeldProcess held(names.front());
    // Accepted, which the supervisor's descriptors tell, and adopted by nobody.
    const auto descriptors = [&] { return DescriptorTable::of(opener.process().pid()).entries().size(); };
    const std::size_t before = descriptors();
    std::vector<TestPeer> peers;
    for (uid_t uid = first_uid; uid <= first_uid + total; ++uid)
        peers.push_back(std::move(peers_of(uid, opener, 1).front()));
    // On a busy machine the first ones have waited for their names long enough, and one has given way.
    wait_for_count("descriptors of the supervisor", descriptors,
                   [&](std::size_t found) { return found >= before + total; });
    held.let_go();
    CHECK(peers.back().open(fixture.file).status == 0);
    const auto connections = [&] {
        ControlPeer control(fixture.directory / "control.sock");
        return control.ask_json("connections --json")["connections"].size();
    };
    wait_for_count("connections", connections, [](std::size_t found) { return found == total; });
    // And nobody else when another generation adopts all of them.
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 2);
    CHECK(peers.back().open(fixture.file).status == 0);
    CHECK(connections() == total);
    peers.clear();
    CHECK(opener.stop() == 0);
}

TEST_CASE("shares: a user gets an eighth of the connections that nobody has, and is told so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections_total: 90}\n");
    auto mine = peers_of(some_user, opener, 11);
    for (std::size_t i = 0; i < 10; ++i) CHECK(mine[i].open(fixture.file).status == 0);
    CHECK(mine.back().wait_for_end() == "this user has as many connections as the policy allows");
    CHECK(peers_of(other_user, opener, 1).front().open(fixture.file).status == 0);
}

TEST_CASE("shares: connections that a user has too many of are on record, all together in few lines") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 3}\n");
    const auto mine = peers_of(some_user, opener, 3);
    constexpr std::size_t too_many = 200;
    for (std::size_t i = 0; i < too_many; ++i) {
        TestPeer one = std::move(peers_of(some_user, opener, 1).front());
        CHECK(one.wait_for_end() == "this user has as many connections as the policy allows");
    }
    const auto records = opener.wait_for_event("session-refused", too_many);
    std::size_t lines = 0;
    for (const auto& record : records) {
        if (record["event"] != "session-refused") continue;
        ++lines;
        CHECK(record["peer"]["uid"] == some_user);
        CHECK(record["peer"]["pid"] == ::getpid());
        CHECK(record["listener"] == "default");
        CHECK(record["cause"] == "this user has as many connections as the policy allows");
    }
    CHECK(lines < 100);
    ControlPeer control(fixture.directory / "control.sock");
    CHECK(control.ask_json("metrics --json")["connections_refused"] == too_many);
}

TEST_CASE("shares: streams that are never read give way, and a newcomer reads one to its end") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    std::vector<TestPeer> peers;
    std::vector<TestPeer::Answer> streams;
    // More users than the table has room for, each with all that it gets.
    for (uid_t uid = first_uid; uid < first_uid + 50; ++uid) {
        peers.push_back(std::move(peers_of(uid, opener, 1).front()));
        for (;;) {
            streams.push_back(peers.back().open(fixture.data + "/large"));
            if (streams.back().status != 0) break;
        }
        CHECK(streams.back().status == EAGAIN);
        streams.pop_back();
    }
    CHECK(helpers_of(opener.broker()).size() > 100);
    auto newcomer = peers_of(first_uid + 50, opener, 1);
    CHECK(rest_of(newcomer.front().open(fixture.data + "/large")) == large);
    const auto records = opener.wait_for_event("transfer-failed");
    CHECK(cause_of_last(records, "transfer-failed").ends_with("another user needs the place"));
    peers.clear();
    CHECK(opener.stop() == 0);
}

TEST_CASE("shares: a stream that nobody reads or writes ends after limits: stream_idle") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    ::signal(SIGPIPE, SIG_IGN);
    RunningOpener opener(fixture.directory, fixture.policy() + "limits: {stream_idle: 300ms}\n");
    TestPeer peer(opener.socket());
    const auto unread = peer.open(fixture.data + "/large");
    const auto unwritten = peer.open(fixture.data + "/log", appending);
    REQUIRE(unread.status == 0);
    REQUIRE(unwritten.status == 0);
    write_all(unwritten, "second\n");
    const auto records = opener.wait_for_event("transfer-failed", 2);
    CHECK(cause_of_last(records, "transfer-failed").ends_with("limits: stream_idle allows"));
    // Nothing that was written is lost, and the connection goes on.
    CHECK(read_file(fixture.data + "/log") == "first\nsecond\n");
    wait_until_closed(unwritten);
    CHECK(rest_of(unread).size() < large.size());
    CHECK(rest_of(peer.open(fixture.data + "/large")) == large);
    CHECK(opener.stop() == 0);
}
