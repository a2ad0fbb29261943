// SPDX-License-Identifier: MIT
// deliver: stream through a real opener: when it ends, of itself and at the hands of others, and what is lost then.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/integration/streams_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

TEST_CASE("stream: a writer that is killed loses nothing of what it wrote") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log", text(60'000, 'y');
    RunningOpener opener(fixture.directory, fixture.policy());
    CHECK_THROWS_WITH(run_in_child([&] {
                          TestPeer peer(opener.socket());
                          const auto stream = peer.open(log, appending);
                          const HeldHelper held(opener);
                          write_all(stream, text);
                          ::raise(SIGKILL);
                      }),
                      "the child was ended by signal 9");
    CHECK(read_file(log) == "first\n");
    const auto helpers = helpers_of(opener.broker());
    REQUIRE(helpers.size() == 1);
    const proto::UniqueFd end = end_of(helpers.front());
    ::kill(helpers.front(), SIGCONT);
    wait_readable(end.borrow());
    CHECK(read_file(log) == "first\n" + text);
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a written stream ends with the session, with the bytes written until then") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log";
    RunningOpener opener(fixture.directory, fixture.policy());
    std::optional<TestPeer> peer(opener.socket());
    const auto stream = peer->open(log, appending);
    REQUIRE(stream.status == 0);
    const HeldHelper helper(opener);
    write_all(stream, "second\n");
    peer.reset();
    helper.let_go();
    wait_until_closed(stream);
    CHECK(read_file(log) == "first\nsecond\n");
    helper.wait_for_end();
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a read stream ends with the session, and with the reader") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    // Two answers later the broker has heard of everything that came before the first.
    TestPeer observer(opener.socket());
    const auto settle = [&] {
        for (int i = 0; i < 2; ++i) CHECK(observer.open("/nowhere").status == EACCES);
    };
    settle();
    const auto before = DescriptorTable::of(opener.broker());
    {
        TestPeer peer(opener.socket());
        auto stream = peer.open(fixture.data + "/large");
        const HeldHelper helper(opener);
        helper.let_go();
        stream.fd.reset();
        helper.wait_for_end();
    }
    std::optional<TestPeer> peer(opener.socket());
    const auto stream = peer->open(fixture.data + "/large");
    const HeldHelper helper(opener);
    peer.reset();
    helper.let_go();
    helper.wait_for_end();
    CHECK(rest_of(stream).size() < large.size());
    opener.wait_for_event("session-end", 2);
    settle();
    CHECK(DescriptorTable::of(opener.broker()).changes_since(before) == "");
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a user has so many, and the next one is refused before anything is made") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string fresh = fixture.data + "/fresh";
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    std::vector<TestPeer::Answer> streams;
    for (std::size_t i = 0; i < streams_of_user; ++i) {
        streams.push_back(peer.open(fixture.data + "/large"));
        REQUIRE(streams.back().status == 0);
    }
    CHECK(helpers_of(opener.broker()).size() == streams_of_user);
    const auto refused = peer.open(fresh, appending | O_CREAT);
    CHECK(refused.status == EAGAIN);
    CHECK(refused.reason.find("streamed") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(fresh));
    run_as(other_user, [&] {
        TestPeer other(opener.socket());
        CHECK(rest_of(other.open(fixture.data + "/large")) == large);
    });
    for (const auto& stream : streams) CHECK(rest_of(stream) == large);
    // Each is over as soon as the broker has heard so.
    TestPeer::Answer next;
    do next = peer.open(fresh, appending | O_CREAT);
    while (next.status == EAGAIN);
    CHECK(next.status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: readers that never read have helpers that read no more, and hold nobody up") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    std::vector<proto::UniqueFd> ends;
    {
        TestPeer peer(opener.socket());
        std::vector<TestPeer::Answer> streams;
        for (std::size_t i = 0; i < streams_of_user; ++i) {
            streams.push_back(peer.open(fixture.data + "/large"));
            REQUIRE(streams.back().status == 0);
            // The pipe of the last stream is made as large as it may be.
            const int size = ::fcntl(streams.back().fd.number(), F_SETPIPE_SZ, i == 0 ? 1 << 18 : 1 << 16);
            REQUIRE(size > 0);
            wait_for_unread(streams.back(), static_cast<std::size_t>(size));
        }
        for (const pid_t helper : helpers_of(opener.broker())) {
            ends.push_back(end_of(helper));
            // A pipe, one piece more, and what the broker says to it.
            CHECK(read_by(helper) <= (std::size_t{1} << 18) + (std::size_t{1} << 16) + 1024);
        }
        CHECK(ends.size() == streams_of_user);
        run_as(other_user, [&] {
            TestPeer other(opener.socket());
            for (int i = 0; i < 20; ++i) CHECK(rest_of(other.open(fixture.data + "/large")) == large);
        });
    }
    for (const auto& end : ends) wait_readable(end.borrow());
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a stream read byte by byte goes on over a reload, and is whole") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::string content;
    for (unsigned i = 0; content.size() < 300'000; ++i) content += std::to_string(i);
    write_file(fixture.data + "/numbers", content);
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    const auto stream = peer.open(fixture.data + "/numbers");
    std::string text;
    for (char byte; ::read(stream.fd.number(), &byte, 1) == 1; text += byte) {
        if (text.size() == 1000) opener.process().signal(SIGHUP);
        if (text.size() == 100'000) opener.wait_for_event("start", 2);
    }
    CHECK(text == content);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: whoever else holds the pipe has it no longer than the session, however busily it writes") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    std::optional<TestPeer> peer(opener.socket());
    auto writing = peer->open(fixture.data + "/log", appending);
    const auto reading = peer->open(fixture.data + "/large");
    REQUIRE(writing.status == 0);
    REQUIRE(reading.status == 0);
    std::vector<proto::UniqueFd> ends;
    for (const pid_t helper : helpers_of(opener.broker())) ends.push_back(end_of(helper));
    REQUIRE(ends.size() == 2);
    Process busy = Process::start({.arguments = {"sh", "-c", "exec head -c 4G /dev/zero >&3"},
                                   .descriptors = {{3, writing.fd.borrow()}}});
    writing.fd.reset();
    const Deadline deadline = in_good_time();
    while (std::filesystem::file_size(fixture.data + "/log") < large.size())
        REQUIRE(std::chrono::steady_clock::now() < deadline);
    peer.reset();
    CHECK(busy.wait().signal == SIGPIPE);
    for (const auto& end : ends) wait_readable(end.borrow());
    CHECK(rest_of(reading).size() < large.size());
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "stream: a flood of requests for them gets so many, an answer for each, and leaves nothing behind") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.data + "/large";
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer observer(opener.socket());
    CHECK(rest_of(observer.open(path)) == large);
    const auto before = DescriptorTable::of(opener.broker()).count();
    {
        auto peers = peers_of(some_user, opener, 4);
        for (TestPeer& peer : peers) REQUIRE(peer.ask(std::vector<std::string>(proto::max_requests, path)));
        run_as(other_user, [&] {
            TestPeer other(opener.socket());
            CHECK(rest_of(other.open(path)) == large);
        });
        std::size_t granted = 0;
        for (TestPeer& peer : peers) {
            for (const auto& answer : peer.answers(proto::max_requests)) {
                CHECK((answer.status == 0 || answer.status == EAGAIN));
                granted += answer.status == 0;
            }
        }
        // Those of the first that are closed again make room for more.
        CHECK(granted >= streams_of_user);
        CHECK(granted < 4 * proto::max_requests);
    }
    // Each begins another helper.
    for (int i = 0; i < 100; ++i) {
        const auto stream = observer.open(path);
        CHECK((stream.status == 0 || stream.status == EAGAIN));
    }
    opener.wait_for_event("session-end", 5);
    const Deadline deadline = in_good_time();
    while (DescriptorTable::of(opener.broker()).count() > before) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        CHECK(observer.open("/nowhere").status == EACCES);
    }
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "stream: a file that is cut, grows or is replaced meanwhile is read as it is then, and fails nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    for (const char* name : {"/cut", "/grown", "/replaced"}) write_file(fixture.data + name, large);
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    const auto cut = peer.open(fixture.data + "/cut"), grown = peer.open(fixture.data + "/grown"),
               replaced = peer.open(fixture.data + "/replaced");
    for (const auto* stream : {&cut, &grown, &replaced}) wait_for_unread(*stream, 1 << 16);
    std::filesystem::resize_file(fixture.data + "/cut", 0);
    std::ofstream(fixture.data + "/grown", std::ios::app) << large;
    write_file(fixture.data + "/other", "other");
    std::filesystem::rename(fixture.data + "/other", fixture.data + "/replaced");
    // The pipe's content and the bytes that the helper had in hand.
    const std::string beginning = rest_of(cut);
    CHECK(beginning.size() <= std::size_t{1} << 17);
    CHECK(large.starts_with(beginning));
    CHECK(rest_of(grown) == large + large);
    CHECK(rest_of(replaced) == large);
    CHECK(opener.count_events("transfer-failed") == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a helper that is killed ends its own stream and is on record") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    const auto stream = peer.open(fixture.data + "/large");
    const auto helpers = helpers_of(opener.broker());
    REQUIRE(helpers.size() == 1);
    const auto other = peer.open(fixture.data + "/large");
    ::kill(helpers.front(), SIGKILL);
    opener.wait_for_event("transfer-failed");
    CHECK(rest_of(stream).size() < large.size());
    CHECK(rest_of(other) == large);
    CHECK(rest_of(peer.open(fixture.data + "/large")) == large);

    const auto writing = peer.open(fixture.data + "/log", appending);
    REQUIRE(writing.status == 0);
    for (const pid_t helper : helpers_of(opener.broker())) ::kill(helper, SIGKILL);
    wait_until_closed(writing);
    const auto records = opener.wait_for_event("transfer-failed", 2);
    CHECK(records.back()["path"] == fixture.data + "/log");
    CHECK(records.back()["rule"] == "streams");
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a full disk closes it, and is on record") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    run_in_mount_namespace([] {
        const Fixture fixture;
        REQUIRE(::mount("none", fixture.data.c_str(), "tmpfs", 0, "size=128k") == 0);
        RunningOpener opener(fixture.directory, fixture.policy());
        TestPeer peer(opener.socket());
        const auto stream = peer.open(fixture.data + "/log", appending | O_CREAT);
        REQUIRE(stream.status == 0);
        ::signal(SIGPIPE, SIG_IGN);
        const std::string piece(4096, 'z');
        while (::write(stream.fd.number(), piece.data(), piece.size()) > 0) {
        }
        CHECK(errno == EPIPE);
        const auto records = opener.wait_for_event("transfer-failed");
        CHECK(records.back().dump().find("No space left") != std::string::npos);
        CHECK(records.back()["path"] == fixture.data + "/log");
        CHECK(read_file(fixture.data + "/log").size() == std::size_t{128} << 10);
        CHECK(opener.stop() == 0);
        // Helpers may still be ending, and hold the mount where there is no private root.
        REQUIRE(::umount2(fixture.data.c_str(), MNT_DETACH) == 0);
    });
}

TEST_CASE(
    "stream: what a full disk keeps from the file is on record also when its writer and the opener have "
    "ended") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    run_in_mount_namespace([] {
        const Fixture fixture;
        REQUIRE(::mount("none", fixture.data.c_str(), "tmpfs", 0, "size=32k") == 0);
        RunningOpener opener(fixture.directory, fixture.policy());
        TestPeer peer(opener.socket());
        auto stream = peer.open(fixture.data + "/log", appending | O_CREAT);
        REQUIRE(stream.status == 0);
        {
            const HeldHelper held(opener);
            write_all(stream, std::string(60'000, 'z'));
            stream.fd.reset();
            opener.process().signal(SIGTERM);
            held.let_go();
        }
        const auto records = opener.wait_for_event("stop");
        CHECK(std::ranges::count(records, "transfer-failed",
                                 [](const auto& record) { return record["event"]; }) == 1);
        CHECK(opener.process().wait().status == 0);
        // Helpers may still be ending, and hold the mount where there is no private root.
        REQUIRE(::umount2(fixture.data.c_str(), MNT_DETACH) == 0);
    });
}

TEST_CASE("stream: an opener that is told to stop writes what is in the pipe") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log", text(60'000, 'y');
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    const auto stream = peer.open(log, appending);
    write_all(stream, text);
    CHECK(opener.stop() == 0);
    CHECK(read_file(log) == "first\n" + text);
}

TEST_CASE("stream: a reload leaves it to its end, under the policy that it was opened by") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log";
    RunningOpener opener(fixture.directory, fixture.policy());
    std::optional<TestPeer> peer(opener.socket());
    const auto reading = peer->open(fixture.data + "/large"), writing = peer->open(log, appending);
    REQUIRE(reading.status == 0);
    REQUIRE(writing.status == 0);
    write_all(writing, "second\n");
    write_file(opener.policy(), "version: 1\nrules: [{name: none, deny: all, paths: [/srv]}]\n");
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 2);
    CHECK(peer->open(log, appending).status == EACCES);
    CHECK(rest_of(reading) == large);
    write_all(writing, "third\n");
    wait_for_size(log, 19);
    // The session has gone on elsewhere, and its end is theirs all the same.
    peer.reset();
    wait_until_closed(writing);
    CHECK(read_file(log) == "first\nsecond\nthird\n");
    CHECK(opener.stop() == 0);
}
