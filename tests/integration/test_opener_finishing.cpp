// SPDX-License-Identifier: MIT
// Generations that have handed over and live on until their helpers have done what was begun.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/integration/service_manager.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

TEST_CASE(
    "finishing: a reload waits for no filesystem that hangs, and what hangs in it is answered by the "
    "generation "
    "that took it") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("60s"));
        TestPeer peer(opener.socket()), other(opener.socket());
        peer.ask({fixture.hanging + "/lookup"});
        filesystem.wait_for_hanging(1);
        const proto::UniqueFd first = end_of(opener.broker());
        SUBCASE("in time") {
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            CHECK(other.open(fixture.data + "/local").status == 0);
            CHECK(peer.open(fixture.data + "/local").status == 0);
            CHECK_FALSE(is_readable_now(peer.socket()));
            filesystem.release();
            const auto answers = peer.answers();
            REQUIRE(answers.size() == 1);
            CHECK(answers[0].id == 1);
            CHECK(answers[0].content() == "fine");
            wait_readable(first.borrow());
            const auto records = opener.wait_for_event("finished");
            const auto record = std::ranges::find_if(
                records, [&](const auto& each) { return each["seq"] == answers[0].record; });
            REQUIRE(record != records.end());
            CHECK((*record)["generation"] == 1);
            CHECK((*record)["decision"] == "allowed");
            CHECK(unexplained_numbers(records) == "");
            CHECK(std::ranges::none_of(records,
                                       [](const auto& each) { return each["event"] == "session-end"; }));
        }
        SUBCASE("by a peer that sends nothing more, and reads what comes") {
            SUBCASE("since before") {
                ::shutdown(peer.socket().number(), SHUT_WR);
                opener.process().signal(SIGHUP);
                opener.wait_for_event("start", 2);
            }
            SUBCASE("since then") {
                opener.process().signal(SIGHUP);
                opener.wait_for_event("start", 2);
                ::shutdown(peer.socket().number(), SHUT_WR);
            }
            CHECK(other.open(fixture.data + "/local").status == 0);
            filesystem.release();
            CHECK(peer.answers().front().content() == "fine");
            CHECK(peer.wait_for_end() == "");
            opener.wait_for_event("session-end");
            wait_readable(first.borrow());
        }
        SUBCASE("and is killed") {
            const pid_t broker = opener.broker();
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            ::kill(broker, SIGKILL);
            const auto lost = peer.answers();
            REQUIRE(lost.size() == 1);
            CHECK(lost[0].id == 1);
            CHECK(lost[0].status == EIO);
            filesystem.release();
            opener.wait_for_event("crash");
            // By nobody else either: not by one that is started later.
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 3);
            CHECK(peer.open(fixture.data + "/local").status == 0);
            CHECK_FALSE(is_readable_now(peer.socket()));
            CHECK(unexplained_numbers(opener.wait_for_event("crash")) == "");
        }
        SUBCASE("and is taken over") {
            const pid_t broker = opener.broker();
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            spoil_audit_ring(broker);
            // Whatever is recorded has the supervisor look.
            CHECK(other.open(fixture.data + "/local").status == 0);
            CHECK(peer.answers().front().status == EIO);
            filesystem.release();
            const auto records = opener.wait_for_event("foul");
            CHECK(unexplained_numbers(records) == "");
            CHECK(std::ranges::all_of(records, [](const auto& each) {
                return each["event"] != "foul" || each["generation"] == 1;
            }));
            CHECK(other.open(fixture.data + "/local").status == 0);
            CHECK(opener.count_events("start") == 2);
        }
        SUBCASE("and both are killed") {
            const pid_t broker = opener.broker();
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            const pid_t next = opener.broker();
            ::kill(next, SIGSTOP);
            ::kill(broker, SIGKILL);
            ::kill(next, SIGKILL);
            CHECK(peer.answers().front().status == EIO);
            CHECK(peer.open(fixture.data + "/local").status == 0);
            CHECK_FALSE(is_readable_now(peer.socket()));
            filesystem.release();
        }
        SUBCASE("and the opener stops") {
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            opener.process().signal(SIGTERM);
            wait_for_removal(opener.socket());
            filesystem.release();
            CHECK(peer.answers().front().content() == "fine");
            CHECK(peer.wait_for_end() == "");
        }
        SUBCASE("and the opener stops, whatever hangs") {
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", 2);
            opener.process().signal(SIGTERM);
            CHECK(peer.answers().front().status == EIO);
            CHECK(peer.wait_for_end() == "");
            CHECK(opener.process().wait().status == 0);
            CHECK(unexplained_numbers(opener.wait_for_event("stop")) == "");
            filesystem.release();
            return;
        }
        if (std::filesystem::exists(opener.socket())) {
            CHECK(opener.stop() == 0);
        } else {
            CHECK(opener.process().wait().status == 0);
        }
    });
}

TEST_CASE(
    "finishing: what a filesystem holds when the opener is restarted is answered, and holds up nobody") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        const ServiceManager manager(fixture.directory);
        write_file(fixture.directory / "policy.yaml", fixture.policy("60s"));
        const auto arguments = RunningOpener::arguments(fixture.directory, {});
        Process first = manager.start(arguments);
        first.wait_for_error("serving");
        TestPeer peer(fixture.directory / "opener.sock"), other(fixture.directory / "opener.sock");
        CHECK(other.open(fixture.data + "/local").status == 0);
        peer.ask({fixture.hanging + "/lookup"});
        filesystem.wait_for_hanging(1);
        first.signal(SIGTERM);
        CHECK(first.wait().status == 0);
        Process second = manager.start(arguments);
        CHECK(peer.answers().front().status == EIO);
        CHECK(other.open(fixture.data + "/local").status == 0);
        filesystem.release();
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");
        second.signal(SIGTERM);
        CHECK(second.wait().status == 0);
    });
}

TEST_CASE("finishing: over a reload as well, what hangs is answered at its deadline") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("2s"));
        TestPeer peer(opener.socket());
        peer.ask(std::vector<std::string>(6, fixture.hanging + "/open"));
        filesystem.wait_for_hanging(4);
        opener.process().signal(SIGHUP);
        opener.wait_for_event("start", 2);
        for (const auto& answer : peer.answers(6)) CHECK(answer.status == ETIMEDOUT);
        // It has nothing more to do, whatever becomes of its helpers.
        const auto records = opener.wait_for_event("finished");
        CHECK(unexplained_numbers(records) == "");
        CHECK(std::ranges::count_if(records, [](const auto& record) {
                  return record["event"] == "request" && record["generation"] == 1;
              }) == 6);
        filesystem.release();
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE(
    "finishing: reloads while they are at work cost no request, and kills at random moments no answer") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        const HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("60s"));
        std::vector<TestPeer> peers;
        for (int i = 0; i < 3; ++i) peers.emplace_back(opener.socket());
        const std::vector<std::string> batch{fixture.hanging + "/fine", fixture.data + "/local",
                                             fixture.hanging + "/fine", fixture.hanging + "/fine"};
        std::vector<std::uint32_t> asked(peers.size());
        const auto ask_all = [&] {
            for (std::size_t i = 0; i < peers.size(); ++i) {
                CHECK(peers[i].ask(batch));
                asked[i] += static_cast<std::uint32_t>(batch.size());
            }
        };
        // How many answers came besides the first to each of the last messages.
        const auto hear_all = [&](bool unknown_may_be) {
            std::size_t others = 0;
            for (std::size_t i = 0; i < peers.size(); ++i) {
                std::set<std::uint32_t> due;
                for (std::size_t j = 0; j < batch.size(); ++j)
                    due.insert(asked[i] - static_cast<std::uint32_t>(j));
                while (!due.empty()) {
                    for (const auto& answer : peers[i].answers()) {
                        CHECK((answer.status == 0 || (unknown_may_be && answer.status == EIO)));
                        others += due.erase(answer.id) == 0;
                    }
                }
            }
            return others;
        };
        std::minstd_rand random(7);
        constexpr std::size_t rounds = 12;
        for (std::size_t round = 1; round <= rounds; ++round) {
            ask_all();
            opener.process().signal(SIGHUP);
            CHECK(hear_all(false) == 0);
            opener.wait_for_event("start", round + 1);
        }
        for (std::size_t round = 0; round < rounds; ++round) {
            ask_all();
            if (round % 2 == 0) opener.process().signal(SIGHUP);
            const auto brokers = brokers_of(opener.process().pid());
            if (!brokers.empty()) ::kill(brokers[random() % brokers.size()], SIGKILL);
            hear_all(true);
        }
        CHECK(opener.stop() == 0);
        CHECK(unexplained_numbers(opener.wait_for_event("stop")) == "");
    });
}

TEST_CASE("finishing: at most four generations finish, and the oldest gives up first") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("60s"));
        TestPeer peer(opener.socket());
        std::vector<proto::UniqueFd> brokers;
        for (unsigned reload = 1; reload <= 5; ++reload) {
            peer.ask({fixture.hanging + "/open"});
            filesystem.wait_for_hanging(reload);
            brokers.push_back(end_of(opener.broker()));
            opener.process().signal(SIGHUP);
            opener.wait_for_event("start", reload + 1);
        }
        const auto given_up = peer.answers();
        REQUIRE(given_up.size() == 1);
        CHECK(given_up[0].id == 1);
        CHECK(given_up[0].status == EIO);
        CHECK(given_up[0].reason.find("unknown") != std::string::npos);
        wait_readable(brokers.front().borrow());
        for (std::size_t i = 1; i < brokers.size(); ++i) CHECK_FALSE(is_readable_now(brokers[i].borrow()));
        const std::string control = fixture.directory / "control.sock";
        const Outcome status = run({.arguments = {openerctl_program(), "--control", control, "status"}});
        CHECK(status.out.find("4 generations that handed over") != std::string::npos);
        filesystem.release();
        for (const auto& answer : peer.answers(4)) CHECK(answer.content() == "fine");
        for (const auto& broker : brokers) wait_readable(broker.borrow());
        CHECK(unexplained_numbers(opener.wait_for_event("finished", 5)) == "");
        CHECK(opener.stop() == 0);
    });
}
