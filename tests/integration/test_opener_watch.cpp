// SPDX-License-Identifier: MIT
// Watches through a real opener: what they tell, and what they do not.
#include <doctest/doctest.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/integration/watch_fixture.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Step;

TEST_CASE("watch: content, attributes, a new object, its removal and its coming back are told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("both/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, path);
    REQUIRE(watch.status == 0);
    append(path, "more");
    CHECK(told(watch) == watch_content);
    REQUIRE(::chmod(path.c_str(), 0640) == 0);
    CHECK(told(watch) == watch_attributes);
    write_file(path + ".new", "another");
    std::filesystem::rename(path + ".new", path);
    CHECK(told_until(watch, watch_replaced) == watch_all);
    append(path, "more");
    CHECK(told(watch) == watch_content);
    std::filesystem::remove(path);
    CHECK(told_until(watch, watch_replaced) == watch_all);
    write_file(path, "");
    CHECK(told_until(watch, watch_replaced) == watch_all);
    append(path, "again");
    CHECK((told_until(watch, watch_content) & watch_content) != 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: only the changes that were asked for are told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("both/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto replaced = begin_watch(peer, path, watch_replaced);
    const auto attributes = begin_watch(peer, path, watch_attributes);
    append(path, "more");
    REQUIRE(::chmod(path.c_str(), 0640) == 0);
    CHECK(told(attributes) == watch_attributes);
    std::filesystem::remove(path);
    CHECK(told(replaced) == watch_replaced);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: changes while a byte is unread are told together afterwards") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("both/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, path);
    const auto other = begin_watch(peer, path);
    append(path, "more");
    wait_readable(watch.fd.borrow());
    for (int time = 0; time < 20; ++time) {
        append(path, "more");
        // The other watch has told by then that the change could be seen.
        CHECK(told(other) != 0);
    }
    REQUIRE(::chmod(path.c_str(), 0640) == 0);
    int unread = 0;
    REQUIRE(::ioctl(watch.fd.number(), FIONREAD, &unread) == 0);
    CHECK(unread == 1);
    CHECK(told(watch) == watch_content);
    CHECK(told(watch) == (watch_content | watch_attributes));
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a file may be missing, its directory may not") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::string path = fixture.at("both/missing");
    const auto watch = begin_watch(peer, path);
    REQUIRE(watch.status == 0);
    write_file(path, "");
    CHECK(told(watch) == watch_all);
    const auto refused = begin_watch(peer, fixture.at("both/absent/file"));
    CHECK(refused.status == ENOENT);
    CHECK(refused.step == Step::resolve);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a directory tells of names in it, and not of what becomes of the files") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.at("both/sub"));
    write_file(fixture.at("both/sub/file"), "");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    // The second is the directory that the rule names, which has no parent in the opener's root.
    for (const std::string& path : {fixture.at("both/sub"), fixture.at("both")}) {
        CAPTURE(path);
        const auto watch = begin_watch(peer, path);
        REQUIRE(watch.status == 0);
        append(fixture.at("both/sub/file"), "more");
        write_file(path + "/made", "");
        CHECK(told(watch) == watch_content);
    }
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: either stat or read grants it, and the record says which") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    for (const char* operation : {"stat", "read"}) {
        const auto watch = begin_watch(peer, fixture.at(operation) + "/file");
        CHECK(watch.status == 0);
        CHECK_FALSE(watch.fd.number() < 0);
        append(fixture.at(operation) + "/file", "more");
        CHECK(told(watch) == watch_content);
    }
    const auto records = opener.wait_for_event("request", 2);
    std::vector<nlohmann::json> decisions;
    for (const auto& record : records)
        if (record["event"] == "request") decisions.push_back(record);
    REQUIRE(decisions.size() == 2);
    CHECK(decisions[0]["call"] == "watch");
    CHECK(decisions[0]["operation"] == nlohmann::json{"stat"});
    CHECK(decisions[1]["operation"] == nlohmann::json{"read"});
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "watch: what no rule allows, what one denies and a mere ancestor are refused before anything is looked "
    "at") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto refused = begin_watch(peer, fixture.at("written/file"));
    CHECK(refused.status == EACCES);
    CHECK(refused.step == Step::decide);
    CHECK(refused.reason == "no rule allows stat");
    CHECK(begin_watch(peer, fixture.at("both/secret")).status == ENOENT);
    CHECK(begin_watch(peer, fixture.at("both/denied")).step == Step::decide);
    const auto ancestor = begin_watch(peer, fixture.directory().path());
    CHECK(ancestor.status == EACCES);
    CHECK(ancestor.step == Step::decide);
    for (const std::uint32_t mask : {0U, 8U, 15U, 1U << 31}) {
        const auto malformed = begin_watch(peer, fixture.at("both/file"), mask);
        CHECK(malformed.status == EINVAL);
        CHECK(malformed.step == Step::parse);
    }
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: names beside it are not told, hidden ones neither") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("both/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, path);
    const auto missing = begin_watch(peer, fixture.at("both/missing"));
    for (const char* name : {"both/secret", "both/denied", "both/fil", "both/file2"}) {
        write_file(fixture.at(name), "new");
        std::filesystem::remove(fixture.at(name));
    }
    append(path, "more");
    CHECK(told(watch) == watch_content);
    CHECK_FALSE(is_readable_now(missing.fd.borrow()));
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: an object that the rules do not show is none, whatever becomes of it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("read/file"), away = fixture.at("written/away");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, path);
    REQUIRE(watch.status == 0);
    // A rule that lets read is about regular files.
    std::filesystem::remove(path);
    CHECK(told_until(watch, watch_replaced) == watch_all);
    write_file(away, "x");
    std::filesystem::create_symlink(away, path);
    append(away, "more");
    std::filesystem::remove(path);
    make_directory(path);
    write_file(path + "/name", "");
    std::filesystem::remove_all(path);
    write_file(path, "");
    CHECK(told(watch) == watch_all);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a link is followed where the rule says so, else it is refused") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_symlink("file", fixture.at("links/link"));
    std::filesystem::create_symlink("file", fixture.at("both/link"));
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, fixture.at("links/link"));
    REQUIRE(watch.status == 0);
    append(fixture.at("links/file"), "more");
    CHECK(told(watch) == watch_content);
    CHECK(begin_watch(peer, fixture.at("both/link")).status == ELOOP);
    CHECK(opener.stop() == 0);
}

TEST_CASE("watch: a change by another name of the file is told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_hard_link(fixture.at("stat/file"), fixture.at("written/other"));
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const auto watch = begin_watch(peer, fixture.at("stat/file"));
    REQUIRE(watch.status == 0);
    append(fixture.at("written/other"), "more");
    CHECK(told(watch) == watch_content);
    CHECK(opener.stop() == 0);
}
