// What the broker's loop does not do itself: it must hurt nobody but whoever asks for it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";
    std::string hanging = data + "/hanging";

    Fixture() {
        make_directory(data);
        make_directory(hanging);
        write_file(data + "/local", "local");
    }
    std::string policy(const std::string& deadline) const {
        return "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" + data +
               "/**\"], deadline: " + deadline + "}\n";
    }
};

// The zygotes are the broker's children, the helpers theirs.
std::vector<pid_t> helpers_of(pid_t broker) {
    std::vector<pid_t> helpers;
    for (const pid_t zygote : children_of(broker)) {
        for (const pid_t helper : children_of(zygote)) helpers.push_back(helper);
    }
    return helpers;
}

// Readable when that process has ended; it has to be there still, so this comes before any kill.
proto::UniqueFd end_of(pid_t pid) {
    proto::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    REQUIRE(process);
    return process;
}

bool has_fuse() {
    return is_root() && can_make_mount_namespace() && ::access("/dev/fuse", R_OK | W_OK) == 0;
}

std::vector<TestPeer::Answer> answers_of(TestPeer& peer, std::size_t count) {
    std::vector<TestPeer::Answer> all;
    while (all.size() < count) std::ranges::move(peer.answers(), std::back_inserter(all));
    return all;
}

}  // namespace

TEST_CASE(
    "helpers: a filesystem that hangs in LOOKUP or OPEN delays nobody else, and its requests end in time") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("500ms"));
        TestPeer peer(opener.socket()), other(opener.socket());
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");
        std::size_t left_behind = 0;
        for (const std::string name : {"/lookup", "/open"}) {
            CAPTURE(name);
            peer.ask({fixture.hanging + name});
            filesystem.wait_for_hanging(1);
            CHECK(peer.open(fixture.data + "/local").content() == "local");
            CHECK(other.open(fixture.data + "/local").content() == "local");
            CHECK(other.open(fixture.hanging + "/fine").content() == "fine");
            CHECK_FALSE(is_readable_now(peer.socket()));
            const auto answers = peer.answers();
            REQUIRE(answers.size() == 1);
            CHECK(answers[0].status == ETIMEDOUT);
            CHECK(answers[0].reason.find("unknown") != std::string::npos);
            opener.wait_for_event("helper-stuck", ++left_behind);
            filesystem.release();
            opener.wait_for_event("helper-back", left_behind);
            // What came back late was not delivered, and what asks now is answered.
            peer.ask({fixture.hanging + name});
            filesystem.wait_for_hanging(1);
            filesystem.release();
            CHECK(peer.answers().front().content() == "fine");
        }
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: closing what was delivered may hang as well, after it was delivered") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("5s"));
        TestPeer peer(opener.socket());
        auto answer = peer.open(fixture.hanging + "/flush");
        CHECK(answer.status == 0);
        filesystem.wait_for_hanging(1);
        CHECK(peer.open(fixture.data + "/local").status == 0);
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");
        opener.wait_for_event("helper-stuck");
        filesystem.release();
        opener.wait_for_event("helper-back");
        // This process's own descriptor hangs in the same way.
        proto::UniqueFd last = std::move(answer.fd);
        std::thread closing([&] { last.reset(); });
        filesystem.wait_for_hanging(1);
        filesystem.release();
        closing.join();
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: one user's are bounded, what waits for them ends in time, and all end with the opener") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("500ms"));
        TestPeer peer(opener.socket());
        peer.ask(std::vector<std::string>(20, fixture.hanging + "/open"));
        filesystem.wait_for_hanging(4);
        const auto helpers = helpers_of(opener.broker());
        CHECK(helpers.size() == 4);
        for (const pid_t helper : helpers) {
            // The one connection that it answers, and no memory that others trust.
            const auto held = DescriptorTable::of(helper).entries();
            CHECK(std::ranges::count_if(
                      held, [](const auto& entry) { return entry.second.starts_with("socket:"); }) == 2);
            CHECK(read_file("/proc/" + std::to_string(helper) + "/maps").find("/dev/zero") ==
                  std::string::npos);
        }
        run_as(other_user,
               [&] { CHECK(TestPeer(opener.socket()).open(fixture.hanging + "/fine").content() == "fine"); });
        std::map<std::string, int> reasons;
        for (const auto& answer : answers_of(peer, 20)) {
            CHECK(answer.status == ETIMEDOUT);
            ++reasons[answer.reason];
        }
        CHECK(reasons.size() == 2);
        CHECK(std::ranges::any_of(reasons, [](const auto& reason) { return reason.second == 4; }));
        opener.wait_for_event("helper-stuck", 4);
        // The fifth of this user waits, and the user's other requests do not.
        CHECK(peer.open(fixture.hanging + "/fine").status == ETIMEDOUT);
        CHECK(peer.open(fixture.data + "/local").status == 0);
        filesystem.release();
        opener.wait_for_event("helper-back", 4);
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");

        std::vector<proto::UniqueFd> ends;
        for (const pid_t helper : helpers_of(opener.broker())) ends.push_back(end_of(helper));
        CHECK(ends.size() <= 5);
        CHECK(opener.stop() == 0);
        for (const auto& end : ends) wait_readable(end.borrow());
    });
}

TEST_CASE("helpers: one that is killed has its request answered, and a zygote is replaced") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("20s"));
        TestPeer peer(opener.socket());
        peer.ask({fixture.hanging + "/lookup"});
        filesystem.wait_for_hanging(1);
        const auto helpers = helpers_of(opener.broker());
        REQUIRE(helpers.size() == 1);
        ::kill(helpers.front(), SIGKILL);
        filesystem.release();
        CHECK(peer.answers().front().status == EIO);
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");

        const auto zygotes = children_of(opener.broker());
        REQUIRE(zygotes.size() >= 2);
        for (const pid_t zygote : zygotes) {
            const auto made = children_of(zygote);
            if (made.empty()) continue;
            const proto::UniqueFd end = end_of(made.front());
            ::kill(zygote, SIGKILL);
            wait_readable(end.borrow());
        }
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");
        opener.wait_for_event("zygote-lost");
        opener.wait_for_event("start", 2);
        CHECK(peer.open(fixture.hanging + "/fine").content() == "fine");
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: a broker that dies takes them along, and the next one answers what they had") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("20s"));
        TestPeer peer(opener.socket());
        peer.ask(std::vector<std::string>(10, fixture.hanging + "/open"));
        filesystem.wait_for_hanging(4);
        std::vector<proto::UniqueFd> ends;
        for (const pid_t helper : helpers_of(opener.broker())) ends.push_back(end_of(helper));
        CHECK(ends.size() == 4);
        ::kill(opener.broker(), SIGKILL);
        for (const auto& answer : answers_of(peer, 10)) CHECK(answer.status == EIO);
        filesystem.release();
        for (const auto& end : ends) wait_readable(end.borrow());
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE(
    "helpers: a reload waits for no filesystem that hangs, and what hangs in it is answered by the "
    "generation "
    "that took it") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
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

TEST_CASE("helpers: over a reload as well, what hangs is answered at its deadline") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("2s"));
        TestPeer peer(opener.socket());
        peer.ask(std::vector<std::string>(6, fixture.hanging + "/open"));
        filesystem.wait_for_hanging(4);
        opener.process().signal(SIGHUP);
        opener.wait_for_event("start", 2);
        for (const auto& answer : answers_of(peer, 6)) CHECK(answer.status == ETIMEDOUT);
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

TEST_CASE("helpers: reloads while they are at work cost no request, and kills at random moments no answer") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
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
            const auto brokers = children_of(opener.process().pid());
            if (!brokers.empty()) ::kill(brokers[random() % brokers.size()], SIGKILL);
            hear_all(true);
        }
        CHECK(opener.stop() == 0);
        CHECK(unexplained_numbers(opener.wait_for_event("stop")) == "");
    });
}

TEST_CASE("helpers: at most four generations finish, and the oldest gives up first") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
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
        for (const auto& answer : answers_of(peer, 4)) CHECK(answer.content() == "fine");
        for (const auto& broker : brokers) wait_readable(broker.borrow());
        CHECK(unexplained_numbers(opener.wait_for_event("finished", 5)) == "");
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: a lease is waited for until the rule's deadline, by nobody else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string leased = fixture.data + "/leased";
    write_file(leased, "leased");
    RunningOpener opener(fixture.directory, fixture.policy("500ms"));
    TestPeer peer(opener.socket());
    run_in_child([&] {
        sigset_t told;
        ::sigemptyset(&told);
        ::sigaddset(&told, SIGIO);
        ::sigprocmask(SIG_BLOCK, &told, nullptr);
        const proto::UniqueFd signals(::signalfd(-1, &told, SFD_CLOEXEC));
        proto::UniqueFd holder(::open(leased.c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(::fcntl(holder.number(), F_SETLEASE, F_WRLCK) == 0);
        peer.ask({leased});
        wait_readable(signals.borrow());
        CHECK(peer.open(fixture.data + "/local").status == 0);
        CHECK(answers_of(peer, 1).front().status == ETIMEDOUT);
        // One that lets go in time.
        peer.ask({leased});
        REQUIRE(::fcntl(holder.number(), F_SETLEASE, F_UNLCK) == 0);
        CHECK(answers_of(peer, 1).front().content() == "leased");
    });
    CHECK(opener.stop() == 0);
}

TEST_CASE("helpers: what is not in the kernel's cache is opened by one, the next time by the loop") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    FDBROKER_SKIP_UNLESS(::access("/dev/loop-control", R_OK | W_OK) == 0, "needs loop devices");
    run_in_mount_namespace([] {
        const Fixture fixture;
        const std::string image = fixture.directory / "image", disk = fixture.data + "/disk";
        make_directory(disk);
        write_file(image, "");
        std::filesystem::resize_file(image, std::size_t{8} << 20);
        REQUIRE(run({.arguments = {"/sbin/mkfs.ext4", "-q", image}}).status == 0);
        const auto mount = [&] {
            REQUIRE(run({.arguments = {"/bin/mount", "-o", "loop", image, disk}}).status == 0);
        };
        mount();
        write_file(disk + "/cold", "cold");
        REQUIRE(::umount(disk.c_str()) == 0);
        mount();
        RunningOpener opener(
            fixture.directory,
            "version: 1\nrules:\n  - {name: disk, allow: [read], paths: [\"" + disk + "/**\"]}\n");
        TestPeer peer(opener.socket());
        CHECK(peer.open(disk + "/cold").content() == "cold");
        const auto helpers = helpers_of(opener.broker());
        REQUIRE(helpers.size() == 1);
        const proto::UniqueFd end = end_of(helpers.front());
        ::kill(helpers.front(), SIGKILL);
        wait_readable(end.borrow());
        CHECK(peer.open(disk + "/cold").content() == "cold");
        CHECK(helpers_of(opener.broker()).empty());
        CHECK(opener.stop() == 0);
        REQUIRE(::umount(disk.c_str()) == 0);
    });
}

TEST_CASE(
    "helpers: of those that are made too late for what they were to do, no more are kept than of others") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const Fixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("200ms"));
        const auto zygotes = children_of(opener.broker());
        for (const pid_t zygote : zygotes) {
            REQUIRE(::kill(zygote, SIGSTOP) == 0);
            wait_until_stopped(zygote);
        }
        for (const uid_t user : {some_user, other_user}) {
            TestPeer peer = std::move(peers_of(user, opener, 1).front());
            peer.ask(std::vector<std::string>(4, fixture.hanging + "/fine"));
            for (const auto& answer : answers_of(peer, 4)) CHECK(answer.status == ETIMEDOUT);
        }
        for (const pid_t zygote : zygotes) REQUIRE(::kill(zygote, SIGCONT) == 0);
        ControlPeer control(fixture.directory / "control.sock");
        const Deadline deadline = in_good_time();
        for (nlohmann::json helpers; helpers.is_null() || helpers["made"] < 4 || helpers["helpers"] > 4;) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            helpers = control.ask_json("metrics --json")["helpers"];
        }
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: a mount below a rule's directory is reached by one, wherever it came from") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    run_in_mount_namespace([] {
        const Fixture fixture;
        RunningOpener opener(fixture.directory, fixture.policy("5s"));
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.hanging + "/new").status == ENOENT);
        REQUIRE(::mount("none", fixture.hanging.c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(fixture.hanging + "/new", "new");
        opener.wait_for_event("start", 2);
        CHECK(peer.open(fixture.hanging + "/new").content() == "new");
        CHECK(helpers_of(opener.broker()).size() == 1);
        CHECK(opener.stop() == 0);
        REQUIRE(::umount(fixture.hanging.c_str()) == 0);
    });
}
