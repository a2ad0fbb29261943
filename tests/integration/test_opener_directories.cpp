// SPDX-License-Identifier: MIT
// Directories that rules name and that become others while the opener serves: a new generation follows.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>

#include <csignal>
#include <filesystem>

#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* followed = "a directory that rules name is another now";

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string data = (directory / "top/data").string();
    std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" + data + "/**\"]}\n";

    Fixture() {
        make_directory(directory / "top");
        make_data("top/data", "first");
    }
    void make_data(const char* name, const char* content) const {
        make_directory(directory / name);
        write_file(directory / (std::string(name) + "/file"), content, {.mode = 0600});
    }
    void rename(const char* from, const char* to) const {
        std::filesystem::rename(directory / from, directory / to);
    }
};

}  // namespace

TEST_CASE("directories: a missing directory appears, and its rules grant") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    fixture.rename("top/data", "top/elsewhere");
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").status == ENOENT);
    fixture.rename("top/elsewhere", "top/data");
    opener.wait_for_event("start", 1, followed);
    CHECK(peer.open(fixture.data + "/file").content() == "first");
}

TEST_CASE("directories: a directory moved away, with another in place, is followed by the name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").content() == "first");
    fixture.make_data("top/other", "second");
    SUBCASE("itself") {
        fixture.rename("top/data", "top/old");
        fixture.rename("top/other", "top/data");
    }
    SUBCASE("the directory above it") {
        fixture.rename("top", "old");
        fixture.make_data("new", "");
        fixture.rename("old/other", "new/data");
        fixture.rename("new", "top");
    }
    opener.wait_for_event("start", 1, followed);
    // The moment in between, when nothing was there, may have been seen as well.
    std::string content;
    while (content != "second") {
        auto answer = peer.open(fixture.data + "/file");
        if (answer.status == 0) content = answer.content();
    }
}

TEST_CASE("directories: a directory behind a link is refused with the true reason and the path to write") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_directory_symlink("top", fixture.directory / "current");
    const std::string link = fixture.directory / "current";
    const std::string told = link + " is a symbolic link to " + (fixture.directory / "top").string() +
                             ": name " + fixture.data + "/**; for rules that follow links, " + link + " too";
    const std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" + link + "/data/**\"]}\n";
    const RunningOpener opener(fixture.directory, policy);
    TestPeer peer(opener.socket());
    const auto refused = peer.open(link + "/data/file");
    CHECK(refused.status == ELOOP);
    CHECK(refused.reason ==
          "\"" + link +
              "\" is a symbolic link, through which its rule does not reach: the rule has to "
              "name where it leads");
    const Outcome status = run({.arguments = {openerctl_program(), "--control",
                                              (fixture.directory / "control.sock").string(), "status"}});
    CHECK(status.out.find(told) != std::string::npos);
    const Outcome lint =
        run({.arguments = {openerctl_program(), "policy", "check", "--lint", opener.policy().string()}});
    CHECK(lint.err.find("grants nothing: " + told + " [linked-directory]") != std::string::npos);
    const Outcome check = run({.arguments = {opener_program(), "--check", "--control", "none", "--policy",
                                             opener.policy().string()}});
    CHECK(check.out.find("dormant: " + link + "/data: " + told + "; its rules grant nothing until then\n") !=
          std::string::npos);
}

TEST_CASE("directories: the path to write for a directory behind a link grants it, by both names") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_directory_symlink("top", fixture.directory / "current");
    const std::string link = fixture.directory / "current";
    // The second rule gives the directory behind the link other attributes, so that it is one to be bound itself.
    const std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read], symlinks: follow, paths: [\"" + link +
        "/data/**\", \"" + link + "\", \"" + fixture.data + "/**\"]}\n" +
        "  - {name: put, allow: [write], symlinks: follow, paths: [\"" + link + "/data/**\"]}\n";
    const RunningOpener opener(fixture.directory, policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").content() == "first");
    CHECK(peer.open(link + "/data/file").content() == "first");
    CHECK(peer.open(link + "/data/file", O_WRONLY).status == EACCES);
}

TEST_CASE("directories: a directory that vanishes is gone for its rules, too") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").status == 0);
    fixture.rename("top/data", "top/elsewhere");
    opener.wait_for_event("start", 1, followed);
    CHECK(peer.open(fixture.data + "/file").status == ENOENT);
}

TEST_CASE("directories: mounts over and below a directory are followed, and unmounts as well") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const Fixture fixture;
    make_directory(fixture.directory / "top/data/sub");
    std::string place = fixture.data;
    SUBCASE("over it") {}
    SUBCASE("below it") {
        place += "/sub";
    }
    run_in_mount_namespace([&] {
        RunningOpener opener(fixture.directory, fixture.policy);
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.data + "/file").content() == "first");
        REQUIRE(::mount("none", place.c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(place + "/file", "mounted", {.mode = 0600});
        opener.wait_for_event("start", 1, followed);
        CHECK(peer.open(place + "/file").content() == "mounted");
        REQUIRE(::umount2(place.c_str(), MNT_DETACH) == 0);
        opener.wait_for_event("start", 2, followed);
        CHECK(peer.open(fixture.data + "/file").content() == "first");
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("directories: flags that a mount gets by a remount hold for what is served, without a reload") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const Fixture fixture;
    const std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read, write], paths: [\"" + fixture.data + "/**\"]}\n";
    run_in_mount_namespace([&] {
        const char* const data = fixture.data.c_str();
        REQUIRE(::mount(data, data, nullptr, MS_BIND, nullptr) == 0);
        RunningOpener opener(fixture.directory, policy);
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.data + "/file", O_WRONLY).status == 0);
        REQUIRE(::mount(nullptr, data, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0);
        opener.wait_for_event("start", 1, followed);
        CHECK(peer.open(fixture.data + "/file", O_WRONLY).status == EROFS);
        REQUIRE(::mount(nullptr, data, nullptr, MS_BIND | MS_REMOUNT, nullptr) == 0);
        opener.wait_for_event("start", 2, followed);
        CHECK(peer.open(fixture.data + "/file", O_WRONLY).status == 0);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("directories: nothing is made or removed under a mount that the opener has not followed yet") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const Fixture fixture;
    make_directory(fixture.directory / "top/data/sub");
    write_file(fixture.directory / "top/data/sub/file", "under");
    std::string place = fixture.data;
    SUBCASE("over the rule's directory") {}
    SUBCASE("below it") {
        place += "/sub";
    }
    const std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read, manage], paths: [\"" + fixture.data + "/**\"]}\n";
    run_in_mount_namespace([&] {
        RunningOpener opener(fixture.directory, policy);
        TestPeer peer(opener.socket());
        HeldProcess watcher(watcher_of(opener.broker()));
        // Mounts elsewhere keep nobody from anything.
        make_directory(fixture.directory / "beside");
        REQUIRE(::mount("none", (fixture.directory / "beside").c_str(), "tmpfs", 0, nullptr) == 0);
        CHECK(peer.open(fixture.data + "/before", O_WRONLY | O_CREAT).status == 0);
        REQUIRE(::mount("none", place.c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(place + "/file", "mounted");
        const auto refused = peer.open(place + "/new", O_WRONLY | O_CREAT);
        CHECK(refused.status == EAGAIN);
        CHECK(refused.reason.find("a mount on its way has changed") != std::string::npos);
        CHECK(peer.call({.call = proto::Call::mkdir, .path = place + "/made"}).status == EAGAIN);
        CHECK(peer.call({.call = proto::Call::remove, .path = place + "/file"}).status == EAGAIN);
        watcher.let_go();
        opener.wait_for_event("start", 1, followed);
        CHECK(peer.open(place + "/new", O_WRONLY | O_CREAT).status == 0);
        CHECK(std::filesystem::exists(place + "/new"));
        CHECK(opener.stop() == 0);
        REQUIRE(::umount2(place.c_str(), MNT_DETACH) == 0);
        CHECK_FALSE(std::filesystem::exists(place + "/new"));
        CHECK_FALSE(std::filesystem::exists(place + "/made"));
        CHECK(read_file(fixture.data + "/sub/file") == "under");
    });
}

TEST_CASE("directories: renaming without end does not start generations without end") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    fixture.make_data("top/other", "second");
    const auto begin = std::chrono::steady_clock::now();
    std::size_t starts = 0;
    while (starts < 3) {
        fixture.rename("top/data", "top/third");
        fixture.rename("top/other", "top/data");
        fixture.rename("top/third", "top/other");
        // Requests are answered all the while.
        const int status = peer.open(fixture.data + "/file").status;
        CHECK((status == 0 || status == ENOENT));
        starts = opener.count_events("start", followed);
    }
    // The second came a second after the first, the third two seconds after that.
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::seconds(3));
}

TEST_CASE("directories: following brings no edit of the policy into force") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").status == 0);
    write_file(opener.policy(), "version: 1\nrules: []\n");
    fixture.make_data("top/other", "second");
    fixture.rename("top/data", "top/old");
    fixture.rename("top/other", "top/data");
    opener.wait_for_event("start", 1, followed);
    CHECK(peer.open(fixture.data + "/file").status == 0);
}

TEST_CASE("directories: the directory watch ends with its generation, and is replaced when it dies") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/file").status == 0);
    const pid_t watcher = watcher_of(opener.broker());
    // The filter is the last thing that it puts on, which may be after the broker serves.
    const std::string status = wait_for_text("/proc/" + std::to_string(watcher) + "/status", "Seccomp:\t2");
    CHECK(status.find("Uid:\t0\t") == std::string::npos);
    CHECK(status.find("CapEff:\t0000000000000004") != std::string::npos);  // CAP_DAC_READ_SEARCH
    ::kill(watcher, SIGKILL);
    opener.wait_for_event("start", 1, followed);
    fixture.rename("top/data", "top/elsewhere");
    opener.wait_for_event("start", 2, followed);
    CHECK(peer.open(fixture.data + "/file").status == ENOENT);
    CHECK(opener.stop() == 0);
}
