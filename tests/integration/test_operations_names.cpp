// SPDX-License-Identifier: MIT
// Names that are made, changed and removed through a real opener.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "proto/payload.hpp"
#include "tests/integration/missing_calls.hpp"
#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;

namespace {

TestPeer::Answer remove(TestPeer& peer, const Fixture& fixture, const char* name, std::uint32_t flags = 0) {
    return peer.call({.call = Call::remove, .flags = flags, .path = fixture.at(name)});
}

// The number of temporary names.
std::ptrdiff_t leftovers(const Fixture& fixture, const char* directory) {
    return std::ranges::count_if(
        std::filesystem::directory_iterator(fixture.at(directory)),
        [](const auto& entry) { return entry.path().filename().string().starts_with(".fdbroker"); });
}

}  // namespace

TEST_CASE("mkdir: a directory has its owner and mode when it gets its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.call({.call = Call::mkdir, .mode = 06777, .path = fixture.at("all/new")}).status == 0);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("all/new")}).status == EEXIST);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("all/deep/down")}).status == 0);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("owned/new")}).status == 0);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("read/new")}).step == Step::decide);
    });
    CHECK(fixture.status("all/new").st_mode == (S_IFDIR | 0750));
    CHECK(fixture.status("all/new").st_uid == some_user);
    CHECK(fixture.status("all/deep/down").st_uid == some_user);
    CHECK(fixture.status("owned/new").st_mode == (S_IFDIR | 0705));
    CHECK(fixture.status("owned/new").st_uid == spool_owner);
    CHECK(std::filesystem::is_empty(fixture.at("all/new")));
    CHECK(std::distance(std::filesystem::directory_iterator(fixture.at("owned")), {}) == 1);
}

TEST_CASE("mkdir: without random bytes for its first name, no directory is made") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away({{SCMP_SYS(getrandom), EIO, {{1, sizeof(std::uint64_t)}}}});
        // Younger C libraries have their random bytes without a system call, and then nothing can take them away.
        std::uint64_t number = 0;
        if (::getrandom(&number, sizeof number, 0) == sizeof number) return;
        with_peer(fixture, [&](TestPeer& peer) {
            CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("all/sub/new")}).status == EIO);
        });
    });
    CHECK(std::filesystem::is_empty(fixture.at("all/sub")));
}

TEST_CASE("mkdir: same_mount holds for the directories that are made above a name as well") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    run_in_mount_namespace([] {
        const Fixture fixture;
        make_directory(fixture.at("one/mounted"));
        REQUIRE(::mount("none", fixture.at("one/mounted").c_str(), "tmpfs", 0, nullptr) == 0);
        with_peer(fixture, [&](TestPeer& peer) {
            for (const char* name : {"one/mounted/new", "one/mounted/above/new"}) {
                CHECK(peer.call({.call = Call::mkdir, .path = fixture.at(name)}).status == EXDEV);
                CHECK(peer.open(fixture.at(name), O_WRONLY | O_CREAT).status == EXDEV);
            }
            CHECK(peer.open(fixture.at("one/here/new"), O_WRONLY | O_CREAT).status == 0);
        });
        CHECK(std::filesystem::is_empty(fixture.at("one/mounted")));
        ::umount2(fixture.at("one/mounted").c_str(), MNT_DETACH);
    });
}

TEST_CASE("remove: takes away files, links and empty directories, each when it was meant") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    fixture.file("all/file");
    fixture.file("all/tls.key");
    fixture.file("read/file");
    fixture.file("all/sub/inside");
    make_directory(fixture.at("all/empty"));
    std::filesystem::create_symlink("/etc/passwd", fixture.at("all/link"));
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(remove(peer, fixture, "all/file").status == 0);
        CHECK(remove(peer, fixture, "all/file").status == ENOENT);
        CHECK(remove(peer, fixture, "all/link").status == 0);
        CHECK(remove(peer, fixture, "all/empty").status == EISDIR);
        CHECK(remove(peer, fixture, "all/empty", AT_REMOVEDIR).status == 0);
        CHECK(remove(peer, fixture, "all/sub", AT_REMOVEDIR).status == ENOTEMPTY);
        CHECK(remove(peer, fixture, "all/tls.key").step == Step::decide);
        CHECK(remove(peer, fixture, "read/file").step == Step::decide);
        CHECK(remove(peer, fixture, "all", AT_REMOVEDIR).status != 0);
    });
    for (const char* name : {"all/file", "all/link", "all/empty"}) CHECK_FALSE(fixture.exists(name));
    for (const char* name : {"all/tls.key", "read/file", "all/sub/inside", "all"})
        CHECK(fixture.exists(name));
}

TEST_CASE(
    "remove: under a rule with conditions, what they hold of is taken away, and all else keeps its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    for (const char* name : {"kept/file", "kept/others"}) fixture.file(name);
    for (const char* name : {"kept/empty", "kept/full"}) make_directory(fixture.at(name));
    fixture.file("kept/full/file");
    std::filesystem::create_symlink("nowhere", fixture.at("kept/link"));
    REQUIRE(::mkfifo(fixture.at("kept/fifo").c_str(), 0600) == 0);
    for (const char* name : {"kept/file", "kept/empty", "kept/full", "kept/link", "kept/fifo"})
        REQUIRE(::lchown(fixture.at(name).c_str(), some_user, some_user) == 0);
    with_peer(fixture, [&](TestPeer& peer) {
        for (const char* name : {"kept/file", "kept/link", "kept/fifo"})
            CHECK(remove(peer, fixture, name).status == 0);
        CHECK(remove(peer, fixture, "kept/others").step == Step::inspect);
        CHECK(remove(peer, fixture, "kept/empty").status == EISDIR);
        CHECK(remove(peer, fixture, "kept/full", AT_REMOVEDIR).status == ENOTEMPTY);
        CHECK(remove(peer, fixture, "kept/empty", AT_REMOVEDIR).status == 0);
    });
    for (const char* name : {"kept/file", "kept/link", "kept/fifo", "kept/empty"})
        CHECK_FALSE(fixture.exists(name));
    for (const char* name : {"kept/others", "kept/full/file"}) CHECK(fixture.exists(name));
    CHECK(leftovers(fixture, "kept") == 0);
}

TEST_CASE("remove: a directory goes with what a killed helper left unfinished in it, and with nothing else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const auto leave = [&](const std::string& directory) {
        make_directory(fixture.at(directory));
        make_directory(fixture.at(directory + "/.fdbroker-new-0123456789abcdef"));
        std::filesystem::create_symlink("x", fixture.at(directory + "/.fdbroker-new-fedcba9876543210"));
        fixture.file(directory + "/.fdbroker-new-00000000000000ff");
    };
    for (const char* name : {"all/swept", "all/used", "all/filled", "all/old"}) leave(name);
    fixture.file("all/used/file");
    fixture.file("all/filled/.fdbroker-new-0123456789abcdef/file");
    fixture.file("all/old/.fdbroker-old-0123456789abcdef");
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(remove(peer, fixture, "all/swept", AT_REMOVEDIR).status == 0);
        for (const char* name : {"all/used", "all/filled", "all/old"})
            CHECK(remove(peer, fixture, name, AT_REMOVEDIR).status == ENOTEMPTY);
    });
    CHECK_FALSE(fixture.exists("all/swept"));
    CHECK(fixture.exists("all/used/.fdbroker-new-fedcba9876543210"));
    CHECK(fixture.exists("all/filled/.fdbroker-new-0123456789abcdef/file"));
    CHECK(fixture.exists("all/old/.fdbroker-old-0123456789abcdef"));
}

TEST_CASE("symlink: a link holds what was asked for, and is not followed to make it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        const std::string target = with_nul("../read/file");
        CHECK(peer.call({.call = Call::symlink, .path = fixture.at("all/link"), .payload = target}).status ==
              0);
        CHECK(peer.call({.call = Call::symlink, .path = fixture.at("all/link"), .payload = target}).status ==
              EEXIST);
        CHECK(peer.call({.call = Call::symlink, .path = fixture.at("owned/link"), .payload = target}).step ==
              Step::decide);
        CHECK(peer.call({.call = Call::symlink,
                         .path = fixture.at("all/nul"),
                         .payload = with_nul(with_nul("a") + "b")})
                  .status == EINVAL);
    });
    CHECK(std::filesystem::read_symlink(fixture.at("all/link")) == "../read/file");
    CHECK(leftovers(fixture, "all") == 0);
}

TEST_CASE("symlink: a link belongs to its peer, or to whom the rule says, as soon as it has its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.at("given"), {.mode = 01777});
    with_peer(fixture, [&](TestPeer& peer) {
        for (const char* name : {"all/link", "given/link"})
            CHECK(
                peer.call({.call = Call::symlink, .path = fixture.at(name), .payload = with_nul("anywhere")})
                    .status == 0);
    });
    CHECK(fixture.status("all/link").st_uid == some_user);
    CHECK(fixture.status("all/link").st_gid == some_user);
    CHECK(fixture.status("given/link").st_uid == spool_owner);
    CHECK(fixture.status("given/link").st_gid == spool_group);
}

TEST_CASE("rename: gives a name and takes one, and gains nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    for (const char* name : {"all/a", "all/taken", "all/b", "all/tls.key", "moved/file", "moved/other"})
        fixture.file(name, name);
    for (const char* name : {"all/directory", "moved/directory"}) make_directory(fixture.at(name));
    const auto rename = [&](TestPeer& peer, const char* from, const char* to, std::uint32_t flags = 0) {
        return peer.call({.call = Call::rename,
                          .flags = flags,
                          .path = fixture.at(from),
                          .payload = with_nul(fixture.at(to))});
    };
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(rename(peer, "all/a", "all/sub/a").status == 0);
        CHECK(rename(peer, "all/b", "all/taken", RENAME_NOREPLACE).status == EEXIST);
        CHECK(rename(peer, "all/b", "all/taken").status == 0);
        CHECK(rename(peer, "all/missing", "all/c").status == ENOENT);
        CHECK(rename(peer, "all/tls.key", "all/key").step == Step::decide);
        CHECK(rename(peer, "all/taken", "all/new.key").step == Step::decide);
        CHECK(rename(peer, "all/taken", "read/new").step == Step::decide);
        CHECK(rename(peer, "all/directory", "all/renamed").status == EACCES);
        CHECK(rename(peer, "moved/directory", "moved/renamed").status == 0);
        // Replacing needs remove, which that rule does not allow.
        CHECK(rename(peer, "moved/file", "moved/other").status == EACCES);
        const auto gaining = rename(peer, "moved/file", "all/file");
        CHECK(gaining.status == EACCES);
        CHECK(gaining.step == Step::decide);
        CHECK(gaining.reason.starts_with("the new name would allow "));
        CHECK(
            peer.call(
                    {.call = Call::rename, .path = fixture.at("all/taken"), .payload = with_nul("relative")})
                .status == EINVAL);
    });
    CHECK(read_file(fixture.at("all/sub/a")) == "all/a");
    CHECK(read_file(fixture.at("all/taken")) == "all/b");
    CHECK(read_file(fixture.at("moved/other")) == "moved/other");
    for (const char* name : {"all/directory", "moved/renamed", "moved/file", "all/tls.key"})
        CHECK(fixture.exists(name));
}

TEST_CASE(
    "rename: what another puts at the new name meanwhile is not replaced unless the peer may remove it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string from = fixture.at("kept/from"), to = fixture.at("kept/to");
    std::atomic<bool> over = false;
    std::size_t replaced = 0;
    std::thread other([&] {
        while (!over) {
            const proto::UniqueFd made(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
            if (!made) continue;
            struct stat own{}, there{};
            ::fstat(made.number(), &own);
            for (int i = 0; i < 20 && ::lstat(to.c_str(), &there) == 0 && there.st_ino == own.st_ino;) ++i;
            if (there.st_ino != own.st_ino)
                ++replaced;
            else
                ::unlink(to.c_str());
        }
    });
    with_peer(fixture, [&](TestPeer& peer) {
        for (int i = 0; i < 2000; ++i) {
            peer.open(from, O_WRONLY | O_CREAT);
            peer.call({.call = Call::rename, .path = from, .payload = with_nul(to)});
            peer.call({.call = Call::remove, .path = to});
        }
    });
    over = true;
    other.join();
    CHECK(replaced == 0);
}
