// SPDX-License-Identifier: MIT
// Work that the broker's loop leaves to helpers: it must hurt nobody but whoever asks for it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/hanging_scene.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

TEST_CASE(
    "helpers: a filesystem that hangs in LOOKUP or OPEN delays nobody else, and its requests end in time") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("500ms", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        TestPeer other(opener.socket());
        ControlPeer control(fixture.directory / "control.sock");
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
            const auto records = opener.wait_for_event("helper-stuck", ++left_behind);
            const auto stuck = std::ranges::find(records.rbegin(), records.rend(), "helper-stuck",
                                                 [](const auto& record) { return record["event"]; });
            CHECK((*stuck)["path"] == fixture.hanging + name);
            CHECK((*stuck)["rule"] == "data");
            CHECK((*stuck)["at"] == opener.policy().string() + ":3");
            const auto status = control.ask_json("status --json")["stuck"];
            REQUIRE(status.size() == 1);
            CHECK(status[0]["path"] == fixture.hanging + name);
            CHECK(status[0]["rule"] == "data");
            CHECK(status[0]["uid"] == 0);
            filesystem.release();
            opener.wait_for_event("helper-back", left_behind);
            // The late file was not delivered, and new requests are answered.
            peer.ask({fixture.hanging + name});
            filesystem.wait_for_hanging(1);
            filesystem.release();
            CHECK(peer.answers().front().content() == "fine");
        }
        CHECK(control.ask_json("status --json")["stuck"].empty());
        // Deliveries are timed from the message's arrival: the file that hung until released is included.
        const auto metrics = control.ask_json("metrics --json");
        CHECK(metrics["helper_request_duration"]["count"] >= 4);
        for (const char* step : {"wait", "carry_out", "deliver"})
            CHECK(metrics["helper_step_duration"][step]["count"] ==
                  metrics["helper_request_duration"]["count"]);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: a helper that hangs in closing the file of a finished stream counts as stuck") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory,
                             "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" + fixture.data +
                                 "/**\"], deliver: stream}\n");
        TestPeer peer(opener.socket());
        const auto streamed = [&](const std::string& path) {
            const auto answer = peer.open(path);
            std::string text(64, '\0');
            wait_readable(answer.fd.borrow());
            text.resize(static_cast<std::size_t>(::read(answer.fd.number(), text.data(), text.size())));
            return text;
        };
        CHECK(streamed(fixture.hanging + "/flush") == "fine");
        filesystem.wait_for_hanging(1);
        const auto records = opener.wait_for_event("helper-stuck");
        CHECK(records.back()["path"] == fixture.hanging + "/flush");
        CHECK(records.back()["rule"] == "data");
        CHECK(streamed(fixture.hanging + "/fine") == "fine");
        filesystem.release();
        opener.wait_for_event("helper-back");
        CHECK(opener.count_events("transfer-failed") == 0);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: openerctl why tells what a helper has reported, over a reload, too") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("5s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        const std::string control = fixture.directory / "control.sock";
        const auto missing = peer.open(fixture.hanging + "/nothing");
        CHECK(missing.status == ENOENT);
        const auto why = [&] {
            return run({.arguments = {openerctl_program(), "--control", control, "why",
                                      std::to_string(missing.record)}});
        };
        CHECK(why().out.find("refused: open read " + fixture.hanging + "/nothing") != std::string::npos);
        scene.reload();
        // The generation that serves is asked.
        CHECK(peer.open(fixture.hanging + "/fine").status == 0);
        const Outcome later = why();
        CHECK(later.status == 0);
        CHECK(later.out == why().out);
        CHECK(later.out.find("refused: open read " + fixture.hanging + "/nothing") != std::string::npos);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: closing what was delivered may hang as well, after it was delivered") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("5s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
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

TEST_CASE(
    "helpers: a user's helpers are bounded, waiting requests end in time, and all end with the opener") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("500ms", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        scene.ask_for("open", 20);
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
        for (const auto& answer : peer.answers(20)) {
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

TEST_CASE("helpers: the request of a killed helper is answered, and a zygote is replaced") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_hanging_scene("20s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        scene.ask_for("lookup");
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
    run_in_hanging_scene("20s", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        scene.ask_for("open", 10);
        filesystem.wait_for_hanging(4);
        std::vector<proto::UniqueFd> ends;
        for (const pid_t helper : helpers_of(opener.broker())) ends.push_back(end_of(helper));
        CHECK(ends.size() == 4);
        ::kill(opener.broker(), SIGKILL);
        for (const auto& answer : peer.answers(10)) CHECK(answer.status == EIO);
        filesystem.release();
        for (const auto& end : ends) wait_readable(end.borrow());
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("helpers: a lease is waited for until the rule's deadline, by nobody else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const HangingFixture fixture;
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
        CHECK(peer.answers(1).front().status == ETIMEDOUT);
        // A holder that lets go in time.
        peer.ask({leased});
        REQUIRE(::fcntl(holder.number(), F_SETLEASE, F_UNLCK) == 0);
        CHECK(peer.answers(1).front().content() == "leased");
    });
    CHECK(opener.stop() == 0);
}

TEST_CASE("helpers: a helper opens an uncached file, the loop opens it the next time") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    FDBROKER_SKIP_UNLESS(::access("/dev/loop-control", R_OK | W_OK) == 0, "needs loop devices");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
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
    run_in_hanging_scene("200ms", [](HangingScene& scene) {
        auto& [fixture, filesystem, opener, peer] = scene;
        std::vector<HeldProcess> zygotes;
        for (const pid_t zygote : children_of(opener.broker())) zygotes.emplace_back(zygote);
        for (const uid_t user : {some_user, other_user}) {
            TestPeer late = std::move(peers_of(user, opener, 1).front());
            late.ask(std::vector<std::string>(4, fixture.hanging + "/fine"));
            for (const auto& answer : late.answers(4)) CHECK(answer.status == ETIMEDOUT);
        }
        zygotes.clear();
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
        const HangingFixture fixture;
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

TEST_CASE(
    "helpers: one that is killed while it keeps a file that is put takes that along, and nothing else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const HangingFixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("5s", "modify"));
    TestPeer peer(opener.socket());
    const std::string path = fixture.data + "/local";
    const auto put = peer.call({.call = proto::Call::put, .path = path});
    REQUIRE(put.status == 0);
    // The broker knows by now that the helper has stayed.
    const proto::Request commit{.call = proto::Call::commit, .path = path, .payload = put.payload};
    CHECK(peer.call(commit).status == EBUSY);
    for (const pid_t helper : helpers_of(opener.broker())) ::kill(helper, SIGKILL);
    opener.wait_for_event("transfer-failed");
    CHECK(peer.call(commit).status == ESTALE);
    CHECK(read_file(path) == "local");
    CHECK(peer.call({.call = proto::Call::put, .path = path}).status == 0);
    // Beside the directory for the filesystem that hangs.
    const std::filesystem::directory_iterator entries(fixture.data);
    CHECK(std::distance(begin(entries), end(entries)) == 2);
}

TEST_CASE("helpers: where a filesystem has no unnamed files none is put") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const HangingFixture fixture;
        HangingFilesystem filesystem(fixture.hanging);
        RunningOpener opener(fixture.directory, fixture.policy("5s", "modify"));
        TestPeer peer(opener.socket());
        const auto refused = peer.call({.call = proto::Call::put, .path = fixture.hanging + "/fine"});
        CHECK(refused.status == EOPNOTSUPP);
        CHECK(refused.reason == "its filesystem has no unnamed files");
    });
}
