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

#include "tests/integration/hanging_scene.hpp"
#include "tests/integration/service_manager.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

TEST_CASE(
    "draining: a reload waits for no filesystem that hangs, and its request is answered by its generation") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_draining_scene([](DrainingScene& scene) {
        scene.reload();
        CHECK(scene.other.open(scene.fixture.data + "/local").status == 0);
        CHECK(scene.serves_peer());
        scene.filesystem.release();
        const auto answers = scene.peer.answers();
        REQUIRE(answers.size() == 1);
        CHECK(answers[0].id == 1);
        CHECK(answers[0].content() == "fine");
        wait_readable(scene.first.borrow());
        const auto records = scene.opener.wait_for_event("finished");
        const auto record =
            std::ranges::find_if(records, [&](const auto& each) { return each["seq"] == answers[0].record; });
        REQUIRE(record != records.end());
        CHECK((*record)["generation"] == 1);
        CHECK((*record)["decision"] == "allowed");
        CHECK(unexplained_numbers(records) == "");
        CHECK(std::ranges::none_of(records, [](const auto& each) { return each["event"] == "session-end"; }));
    });
}

TEST_CASE("draining: a peer that sends nothing more reads the answer of the generation that drains") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    for (const bool before : {true, false}) {
        CAPTURE(before);
        run_in_draining_scene([before](DrainingScene& scene) {
            if (before) ::shutdown(scene.peer.socket().number(), SHUT_WR);
            scene.reload();
            if (!before) ::shutdown(scene.peer.socket().number(), SHUT_WR);
            CHECK(scene.other.open(scene.fixture.data + "/local").status == 0);
            scene.filesystem.release();
            CHECK(scene.peer.answers().front().content() == "fine");
            CHECK(scene.peer.wait_for_end() == "");
            scene.opener.wait_for_event("session-end");
            wait_readable(scene.first.borrow());
        });
    }
}

TEST_CASE("draining: requests of a generation that is killed while it drains are answered once") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_draining_scene([](DrainingScene& scene) {
        scene.reload();
        ::kill(scene.broker, SIGKILL);
        const auto lost = scene.peer.answers();
        REQUIRE(lost.size() == 1);
        CHECK(lost[0].id == 1);
        CHECK(lost[0].status == EIO);
        scene.filesystem.release();
        scene.opener.wait_for_event("crash");
        // A generation that is started later does not answer again.
        scene.reload(3);
        CHECK(scene.serves_peer());
        CHECK(unexplained_numbers(scene.opener.wait_for_event("crash")) == "");
    });
}

TEST_CASE("draining: a generation that is taken over while it drains is ended for its records alone") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_draining_scene([](DrainingScene& scene) {
        scene.reload();
        spoil_audit_ring(scene.broker);
        // Whatever is recorded has the supervisor look.
        CHECK(scene.other.open(scene.fixture.data + "/local").status == 0);
        CHECK(scene.peer.answers().front().status == EIO);
        scene.filesystem.release();
        const auto records = scene.opener.wait_for_event("foul");
        CHECK(unexplained_numbers(records) == "");
        CHECK(std::ranges::all_of(
            records, [](const auto& each) { return each["event"] != "foul" || each["generation"] == 1; }));
        CHECK(scene.other.open(scene.fixture.data + "/local").status == 0);
        CHECK(scene.opener.count_events("start") == 2);
    });
}

TEST_CASE("draining: a request is answered although its generation and the next one are killed") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_draining_scene([](DrainingScene& scene) {
        scene.reload();
        const pid_t next = scene.opener.broker();
        ::kill(next, SIGSTOP);
        ::kill(scene.broker, SIGKILL);
        ::kill(next, SIGKILL);
        CHECK(scene.peer.answers().front().status == EIO);
        CHECK(scene.serves_peer());
        scene.filesystem.release();
    });
}

TEST_CASE("draining: an opener that stops waits for the generations that drain") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_draining_scene([](DrainingScene& scene) {
        scene.reload();
        scene.opener.process().signal(SIGTERM);
        wait_for_removal(scene.opener.socket());
        scene.filesystem.release();
        CHECK(scene.peer.answers().front().content() == "fine");
        CHECK(scene.peer.wait_for_end() == "");
    });
}

TEST_CASE("draining: an opener that stops waits for no filesystem that hangs") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        DrainingScene scene;
        scene.reload();
        scene.opener.process().signal(SIGTERM);
        CHECK(scene.peer.answers().front().status == EIO);
        CHECK(scene.peer.wait_for_end() == "");
        CHECK(scene.opener.process().wait().status == 0);
        CHECK(unexplained_numbers(scene.opener.wait_for_event("stop")) == "");
        scene.filesystem.release();
    });
}

TEST_CASE("draining: a request that hangs at the restart is answered, and delays nobody") {
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

TEST_CASE("draining: over a reload as well, what hangs is answered at its deadline") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("2s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        scene.ask_for("open", 6);
        filesystem.wait_for_hanging(4);
        scene.reload();
        for (const auto& answer : peer.answers(6)) CHECK(answer.status == ETIMEDOUT);
        // The generation has nothing more to do, whatever becomes of the helpers.
        const auto records = opener.wait_for_event("finished");
        CHECK(unexplained_numbers(records) == "");
        CHECK(std::ranges::count_if(records, [](const auto& record) {
                  return record["event"] == "request" && record["generation"] == 1;
              }) == 6);
        filesystem.release();
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("draining: reloads while they are at work cost no request, and kills at random moments no answer") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("60s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
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

TEST_CASE("draining: at most four generations drain, and the oldest gives up first") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("60s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        std::vector<proto::UniqueFd> brokers;
        for (unsigned reload = 1; reload <= 5; ++reload) {
            scene.ask_for("open");
            filesystem.wait_for_hanging(reload);
            brokers.push_back(end_of(opener.broker()));
            scene.reload(reload + 1);
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
