// SPDX-License-Identifier: MIT
// Opening through a real opener: files, new files, directories, snapshots, several at once.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/missing_calls.hpp"
#include "tests/integration/operations_fixture.hpp"
#include "tests/support/terminal.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;

namespace {

int access_mode(const TestPeer::Answer& answer) {
    return ::fcntl(answer.fd.number(), F_GETFL) & O_ACCMODE;
}

bool write_to(const TestPeer::Answer& answer, std::string_view text) {
    return ::write(answer.fd.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// The errno of a call, or 0.
int outcome_of(long result) {
    return result < 0 ? errno : 0;
}

int open_outcome(int result) {
    const int outcome = outcome_of(result);
    const proto::UniqueFd opened(result);
    return outcome;
}

}  // namespace

TEST_CASE("open: each access mode is delivered as asked, and the object is what it was") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("all/file");
    with_peer(fixture, [&](TestPeer& peer) {
        for (const int access : {O_RDONLY, O_WRONLY, O_RDWR}) {
            CAPTURE(access);
            const auto answer = peer.open(path, static_cast<std::uint32_t>(access));
            REQUIRE(answer.status == 0);
            CHECK(access_mode(answer) == access);
            CHECK(write_to(answer, "c") == (access != O_RDONLY));
        }
        const auto appending = peer.open(path, O_WRONLY | O_APPEND);
        REQUIRE(appending.status == 0);
        CHECK(write_to(appending, "+"));
        const auto flags = peer.open(path, O_RDWR | O_SYNC | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | 0100000);
        REQUIRE(flags.status == 0);
        CHECK((::fcntl(flags.fd.number(), F_GETFL) & O_SYNC) == O_SYNC);
    });
    CHECK(read_file(path) == "content+");
}

TEST_CASE("open: a file is truncated when everything is right, and by no request that ends refused") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("all/file");
    const std::string two_names = fixture.file("all/linked");
    std::filesystem::create_hard_link(two_names, fixture.at("all/other"));
    const std::string key = fixture.file("all/tls.key");
    const std::string readable = fixture.file("read/file");
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.open(two_names, O_WRONLY | O_TRUNC).step == Step::inspect);
        CHECK(peer.open(key, O_WRONLY | O_TRUNC).step == Step::decide);
        CHECK(peer.open(readable, O_RDWR | O_TRUNC).step == Step::decide);
        CHECK(peer.open(path, O_TRUNC).status == EINVAL);
        CHECK(peer.open(path, O_RDWR | O_TRUNC).status == 0);
    });
    CHECK(read_file(path).empty());
    for (const std::string& kept : {two_names, key, readable}) CHECK(read_file(kept) == "content");
}

TEST_CASE("open: a created file has the peer as its owner and the rule's mode, whatever mode was asked for") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        const auto made = peer.open(fixture.at("all/new"), O_WRONLY | O_CREAT | O_EXCL);
        REQUIRE(made.status == 0);
        CHECK(access_mode(made) == O_WRONLY);
        CHECK(write_to(made, "made"));
        CHECK(peer.open(fixture.at("all/new"), O_WRONLY | O_CREAT | O_EXCL).status == EEXIST);
        CHECK(peer.open(fixture.at("all/new"), O_RDWR | O_CREAT).content() == "made");
        const auto reading = peer.open(fixture.at("all/empty"), O_RDONLY | O_CREAT);
        REQUIRE(reading.status == 0);
        CHECK(access_mode(reading) == O_RDONLY);
        CHECK(
            peer.call({.flags = O_WRONLY | O_CREAT, .mode = 06777, .path = fixture.at("owned/new")}).status ==
            0);
        CHECK(peer.open(fixture.at("read/new"), O_WRONLY | O_CREAT).step == Step::decide);
        CHECK(peer.open(fixture.at("all/new.key"), O_WRONLY | O_CREAT).step == Step::decide);
    });
    for (const char* name : {"all/new", "all/empty"}) {
        CHECK(fixture.status(name).st_uid == some_user);
        CHECK(fixture.status(name).st_mode == (S_IFREG | 0640));
    }
    CHECK(fixture.status("owned/new").st_uid == spool_owner);
    CHECK(fixture.status("owned/new").st_gid == spool_group);
    CHECK(fixture.status("owned/new").st_mode == (S_IFREG | 0604));
    CHECK_FALSE(fixture.exists("read/new"));
}

TEST_CASE("open: missing directories above a file are made when the rule says so, and no other") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.open(fixture.at("all/a/b/c/new"), O_WRONLY | O_CREAT).status == 0);
        CHECK(peer.open(fixture.at("owned/a/new"), O_WRONLY | O_CREAT).status == ENOENT);
        CHECK(peer.open(fixture.at("all/hidden/new"), O_WRONLY | O_CREAT).status == ENOENT);
        CHECK(peer.open(fixture.at("all/a/x/y"), O_WRONLY).status == ENOENT);
    });
    for (const char* name : {"all/a", "all/a/b", "all/a/b/c"}) {
        CHECK(fixture.status(name).st_uid == some_user);
        CHECK(fixture.status(name).st_mode == (S_IFDIR | 0750));
    }
    for (const char* name : {"owned/a", "all/hidden", "all/a/x"}) CHECK_FALSE(fixture.exists(name));
    for (const auto& entry : std::filesystem::recursive_directory_iterator(fixture.at("all")))
        CHECK_FALSE(entry.path().filename().string().starts_with(".fdbroker"));
}

TEST_CASE("open: no directory is delivered, whatever types the rule has") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.at("directories/sub"));
    fixture.file("directories/sub/file");
    with_peer(fixture, [&](TestPeer& peer) {
        for (const int flags : {O_RDONLY, O_RDONLY | O_DIRECTORY, O_RDONLY | O_NONBLOCK}) {
            const auto answer = peer.open(fixture.at("directories/sub"), static_cast<std::uint32_t>(flags));
            CHECK(answer.status == EISDIR);
            CHECK_FALSE(answer.fd);
        }
        CHECK(peer.open(fixture.at("directories/sub/file")).status == 0);
        CHECK(peer.open(fixture.at("directories/sub/file"), O_DIRECTORY).status == ENOTDIR);
        CHECK(peer.open(fixture.at("all/sub"), O_DIRECTORY).status == EISDIR);
        CHECK(peer.open(fixture.at("all/sub")).status == EISDIR);
        CHECK(peer.open(fixture.at("all/sub"), O_WRONLY).status == EISDIR);
    });
}

TEST_CASE(
    "open: a device is opened where the rule's types have it, and a refused one never, whatever confines") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const auto try_it = [] {
        const TempDir directory(TempDir::Place::var_tmp);
        const Terminal allowed, refused;
        RunningOpener opener(directory,
                             "version: 1\nrules:\n  - name: terminal\n    allow: [read, write]\n"
                             "    paths: [" +
                                 allowed.name() +
                                 "]\n"
                                 "    files: {types: [character_device]}\n"
                                 "  - {name: files, allow: [read, write], paths: [\"/dev/pts/*\"]}\n");
        TestPeer peer(opener.socket());
        for (const int flags : {O_RDONLY, O_RDWR, O_RDONLY | O_NONBLOCK}) {
            const auto answer = peer.open(refused.name(), static_cast<std::uint32_t>(flags));
            CHECK(answer.status == EACCES);
            CHECK(answer.step != Step::decide);
            CHECK(answer.reason == "it is a device, which the rule's types do not have");
        }
        CHECK(peer.open(allowed.name(), O_RDWR).status == 0);
        CHECK(allowed.comes_to_be_opened());
        CHECK(opener.stop() == 0);
        CHECK_FALSE(refused.was_opened());
    };
    try_it();
    run_in_child([&] {
        take_away({{SCMP_SYS(unshare), EPERM}});
        try_it();
    });
}

TEST_CASE("open: a descriptor for reading is for reading, whatever the file's mode and the rules around it") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    FDBROKER_SKIP_UNLESS(!has_starting_program(), "Landlock in place of the private root makes no mount");
    const Fixture fixture;
    // Another rule makes both directories writable for the broker; the file is the peer's own.
    for (const char* name : {"read/own", "all/own"})
        write_file(fixture.at(name), "content", {.mode = 0666, .uid = some_user, .gid = some_user});
    with_peer(fixture, [&](TestPeer& peer) {
        const auto check_reads_alone = [](const TestPeer::Answer& answer) {
            REQUIRE(answer.status == 0);
            const std::string again = "/proc/self/fd/" + std::to_string(answer.fd.number());
            CHECK(open_outcome(::open(again.c_str(), O_RDONLY | O_CLOEXEC)) == 0);
            for (const int flags : {O_WRONLY, O_RDWR, O_RDWR | O_TRUNC})
                CHECK(open_outcome(::open(again.c_str(), flags | O_CLOEXEC)) == EROFS);
            CHECK(outcome_of(::truncate(again.c_str(), 0)) == EROFS);
            CHECK(outcome_of(::fchmod(answer.fd.number(), 0600)) == EROFS);
            CHECK(outcome_of(::futimens(answer.fd.number(), nullptr)) == EROFS);
            CHECK(outcome_of(::fsetxattr(answer.fd.number(), "user.a", "b", 1, 0)) == EROFS);
        };
        // The second open finds the file in the kernel's cache, and is answered by the loop.
        for (int times = 0; times < 2; ++times)
            for (const char* name : {"read/own", "all/own"}) check_reads_alone(peer.open(fixture.at(name)));
        check_reads_alone(peer.open(fixture.at("all/own"), O_RDONLY | O_CREAT));
        check_reads_alone(peer.open(fixture.at("all/made"), O_RDONLY | O_CREAT));
        const auto writable = peer.open(fixture.at("all/own"), O_RDWR);
        REQUIRE(writable.status == 0);
        CHECK(write_to(writable, "changed"));
    });
    CHECK(read_file(fixture.at("read/own")) == "content");
}

TEST_CASE("snapshot: a sealed copy, and none while somebody may write to the file") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("copied/file", "before");
    const std::string large = fixture.file("copied/large", std::string((1 << 20) + 1, 'x'));
    with_peer(fixture, [&](TestPeer& peer) {
        const auto copy = peer.open(path);
        REQUIRE(copy.status == 0);
        CHECK(copy.content() == "before");
        CHECK(::fcntl(copy.fd.number(), F_GET_SEALS) ==
              (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL));
        CHECK_FALSE(write_to(copy, "x"));
        CHECK(::lseek(copy.fd.number(), 0, SEEK_CUR) == 0);
        CHECK(peer.open(large).status == EFBIG);
    });
    const proto::UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    with_peer(fixture, [&](TestPeer& peer) {
        const auto refused = peer.open(path);
        CHECK(refused.status == EAGAIN);
        CHECK(refused.step == Step::deliver);
    });
}

TEST_CASE("snapshot: a user gets so many bytes of them, and others theirs") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("copied/file", std::string(600, 'x'));
    RunningOpener opener(fixture.directory(),
                         fixture.policy() + "limits: {snapshot_bytes_per_second: {rate: 1, burst: 1000}}\n");
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        CHECK(peer.open(path).content().size() == 600);
        CHECK(peer.open(path).content().size() == 600);
        const auto refused = peer.open(path);
        CHECK(refused.status == EAGAIN);
        CHECK(refused.step == Step::deliver);
        CHECK_FALSE(refused.fd);
    });
    run_as(other_user, [&] { CHECK(TestPeer(opener.socket()).open(path).status == 0); });
    CHECK(opener.stop() == 0);
}

TEST_CASE("batch: all or nothing delivers none unless all succeed, and is for what changes nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("all/file");
    const std::string other = fixture.file("owned/file");
    const std::string made = fixture.at("all/made");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto together = [&](const std::vector<proto::Request>& requests) {
            std::vector<int> statuses;
            for (const auto& answer : peer.call_together(requests)) {
                CHECK(static_cast<bool>(answer.fd) == (answer.status == 0 && answer.payload.empty()));
                statuses.push_back(answer.status);
            }
            return statuses;
        };
        const proto::Request there{.path = path};
        const proto::Request status{.call = Call::stat, .path = path};
        CHECK(together({there, status}) == std::vector{0, 0});
        CHECK(together({there, {.path = other}, status}) == std::vector{ECANCELED, EACCES, ECANCELED});
        CHECK(together({there, {.flags = O_WRONLY | O_CREAT, .path = made}}) ==
              std::vector{ECANCELED, EINVAL});
        CHECK(together({{.call = Call::remove, .path = path}}) == std::vector{EINVAL});
    });
    CHECK(fixture.exists("all/file"));
    CHECK_FALSE(fixture.exists("all/made"));
}

TEST_CASE("batch: an all-or-nothing message waits with any of the requests, and then delivers all or none") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    // A copy is never made where others would have to wait for it.
    const std::string copied = fixture.file("copied/file", "copied");
    const std::string large = fixture.file("copied/large", std::string((1 << 20) + 1, 'x'));
    const std::string path = fixture.file("all/file");
    const std::string name = fixture.at("read/link");
    std::filesystem::create_symlink("anywhere", name);
    with_peer(fixture, [&](TestPeer& peer) {
        const proto::Request there{.path = path};
        const proto::Request link{.call = Call::readlink, .path = name};
        const auto all = peer.call_together({there, {.path = copied}, link});
        REQUIRE(all.size() == 3);
        for (const auto& answer : all) CHECK(answer.status == 0);
        CHECK(all[0].content() == "content");
        CHECK(all[1].content() == "copied");
        CHECK(all[2].payload == "anywhere");
        const auto none = peer.call_together({there, {.path = copied}, {.path = large}, link});
        CHECK(none[2].status == EFBIG);
        for (const std::size_t index : {0U, 1U, 3U}) {
            CHECK(none[index].status == ECANCELED);
            CHECK_FALSE(none[index].fd);
            CHECK(none[index].payload.empty());
        }
        CHECK(peer.open(copied).content() == "copied");
    });
}

TEST_CASE(
    "batch: answers of all or nothing that no message has room for are refused, and the opener goes on") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_symlink(std::string(3000, 'x'), fixture.at("read/long"));
    RunningOpener opener(fixture.directory(), fixture.policy());
    const pid_t broker = opener.broker();
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        const std::string path = fixture.at("read/long");
        const auto all = [&](std::size_t count) {
            return peer.call_together(
                std::vector<proto::Request>(count, {.call = Call::readlink, .path = path}));
        };
        for (const auto& answer : all(20)) CHECK(answer.payload.size() == 3000);
        const auto answers = all(40);
        CHECK(answers.front().status == ECANCELED);
        CHECK(answers.back().status == EMSGSIZE);
    });
    CHECK(opener.broker() == broker);
    CHECK(opener.stop() == 0);
}
