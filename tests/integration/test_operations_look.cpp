// SPDX-License-Identifier: MIT
// What looks through a real opener, links that are followed, and attributes.
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>
#include <set>

#include "proto/payload.hpp"
#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;

namespace {

// Links that lead to what rules allow, and to what they do not.
void make_links(const Fixture& fixture) {
    fixture.file("read/target", "target");
    fixture.file("read/file");
    fixture.file("links/file", "here");
    make_directory(fixture.at("links/sub"));
    fixture.file("links/sub/deep", "deep");
    const auto link = [&](const std::string& to, const char* name) {
        std::filesystem::create_symlink(to, fixture.at(name));
    };
    link("file", "links/beside");
    link("../read/target", "links/target");
    link(fixture.at("read/target"), "links/absolute");
    link("sub", "links/directory");
    link("beside", "links/twice");
    link("/etc/shadow", "links/shadow");
    link("/no/such/file", "links/nowhere");
    link("../read/file", "links/refusing");
    link("itself", "links/itself");
    link("hidden", "links/to-hidden");
    link("missing", "links/to-missing");
    link("/etc/shadow", "links/na\nme\xff");
    for (unsigned number = 0; number < 41; ++number)
        link(number == 0 ? "file" : "chain" + std::to_string(number - 1),
             ("links/chain" + std::to_string(number)).c_str());
}

}  // namespace

TEST_CASE("stat: tells of the object, or of the link itself; a mount's number stays with the opener") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("read/file", "12345");
    std::filesystem::create_symlink("file", fixture.at("read/link"));
    with_peer(fixture, [&](TestPeer& peer) {
        const auto answer = peer.call({.call = Call::stat, .path = path});
        REQUIRE(answer.status == 0);
        const auto status = proto::read_status(answer.payload);
        REQUIRE(status);
        CHECK(status->size == 5);
        CHECK(status->mode == (S_IFREG | 0600));
        CHECK(status->uid == 0);
        CHECK((status->mask & STATX_MNT_ID) == 0);
        CHECK(proto::read_status(peer.call({.call = Call::stat, .path = fixture.at("read")}).payload)->mode ==
              (S_IFDIR | 0700));
        const std::string link = fixture.at("read/link");
        const auto refused = peer.call({.call = Call::stat, .path = link});
        CHECK(refused.status == ELOOP);
        CHECK(refused.reason == "\"" + link + "\" is a symbolic link");
        const auto itself = peer.call({.call = Call::stat, .flags = AT_SYMLINK_NOFOLLOW, .path = link});
        REQUIRE(itself.status == 0);
        CHECK(S_ISLNK(proto::read_status(itself.payload)->mode));
        CHECK(peer.call({.call = Call::stat, .flags = AT_NO_AUTOMOUNT, .path = path}).step == Step::parse);
        CHECK(peer.call({.call = Call::stat, .path = "/etc/passwd"}).step == Step::decide);
    });
}

TEST_CASE("readlink: tells what a link holds, and that anything else is none") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    fixture.file("read/file");
    std::filesystem::create_symlink("/any/where/../at all", fixture.at("read/link"));
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.call({.call = Call::readlink, .path = fixture.at("read/link")}).payload ==
              "/any/where/../at all");
        CHECK(peer.call({.call = Call::readlink, .path = fixture.at("read/file")}).status == EINVAL);
        CHECK(peer.call({.call = Call::readlink, .path = fixture.at("owned/link")}).step == Step::decide);
    });
}

TEST_CASE("list: every name once, page by page, without those that are told not to exist") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::set<std::string> expected;
    for (unsigned number = 0; number < 1000; ++number) {
        const std::string name = std::to_string(number) + std::string(100, 'n');
        fixture.file("read/" + name);
        expected.insert(name);
    }
    fixture.file("read/hidden");
    fixture.file("read/tls.key");
    expected.insert("tls.key");
    with_peer(fixture, [&](TestPeer& peer) {
        std::set<std::string> found;
        unsigned pages = 0;
        for (std::uint64_t cursor = 0;;) {
            const auto number = proto::number_payload(cursor);
            const auto answer = peer.call(
                {.call = Call::list, .path = fixture.at("read"), .payload = {number.data(), number.size()}});
            REQUIRE(answer.status == 0);
            ++pages;
            proto::DirectoryPageReader page(answer.payload);
            while (const auto entry = page.entry()) {
                CHECK(found.insert(std::string(entry->name)).second);
                CHECK(entry->type == DT_REG);
            }
            CHECK(page.ok());
            cursor = page.next_cursor();
            if (cursor == 0) break;
        }
        CHECK(found == expected);
        CHECK(pages > 1);
        const auto zero = proto::number_payload(0);
        const std::string_view beginning(zero.data(), zero.size());
        CHECK(peer.call({.call = Call::list, .path = fixture.at("read/tls.key"), .payload = beginning})
                  .status == ENOTDIR);
        CHECK(peer.call({.call = Call::list, .path = fixture.at("owned"), .payload = beginning}).step ==
              Step::decide);
    });
}

TEST_CASE("setattr: mode without set-id and times, of the object that was inspected") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("all/file");
    fixture.file("read/file");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto times =
            proto::times_payload({.access = {0, UTIME_OMIT}, .modification = {1'000'000'000, 5}});
        const std::string_view payload(times.data(), times.size());
        CHECK(peer.call({.call = Call::setattr, .flags = 3, .mode = 0604, .path = path, .payload = payload})
                  .status == 0);
        for (const std::uint32_t mode : {04755U, 02755U, 010644U})
            CHECK(peer.call({.call = Call::setattr, .flags = 1, .mode = mode, .path = path}).step ==
                  Step::parse);
        CHECK(peer.call({.call = Call::setattr, .path = path}).step == Step::parse);
        CHECK(peer.call({.call = Call::setattr, .flags = 2, .path = path}).step == Step::parse);
        CHECK(peer.call({.call = Call::setattr, .flags = 1, .mode = 0777, .path = fixture.at("read/file")})
                  .step == Step::decide);
        CHECK(peer.call({.call = Call::setattr, .flags = 1, .mode = 0711, .path = fixture.at("all/sub")})
                  .status == 0);
    });
    CHECK(fixture.status("all/file").st_mode == (S_IFREG | 0604));
    CHECK(fixture.status("all/file").st_mtim.tv_sec == 1'000'000'000);
    CHECK(fixture.status("all/file").st_uid == 0);
    CHECK(fixture.status("all/sub").st_mode == (S_IFDIR | 0711));
}

TEST_CASE("setattr: a link's own times are set, never those of what it leads to") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string file = fixture.file("all/file");
    std::filesystem::create_symlink("file", fixture.at("all/link"));
    std::filesystem::create_symlink("../read/file", fixture.at("all/out"));
    std::filesystem::create_symlink("file", fixture.at("read/link"));
    std::filesystem::create_symlink("file", fixture.at("modes/link"));
    std::filesystem::create_hard_link(fixture.at("modes/link"), fixture.at("read/second"));
    const auto times = proto::times_payload({.access = {7, 0}, .modification = {1'000'000'000, 5}});
    const std::string_view payload(times.data(), times.size());
    with_peer(fixture, [&](TestPeer& peer) {
        const auto set = [&](const std::string& path, std::uint32_t flags, std::uint32_t mode = 0) {
            const bool with_times = (flags & proto::setattr_times) != 0;
            return peer.call({.call = Call::setattr,
                              .flags = flags,
                              .mode = mode,
                              .path = path,
                              .payload = with_times ? payload : std::string_view()});
        };
        constexpr std::uint32_t times_of_link = proto::setattr_times | proto::setattr_link;
        CHECK(set(fixture.at("all/link"), proto::setattr_times).status == ELOOP);
        CHECK(set(fixture.at("all/link"), times_of_link).status == 0);
        CHECK(set(fixture.at("all/out"), times_of_link).status == 0);
        CHECK(set(fixture.at("all/sub"), times_of_link).status == 0);
        CHECK(set(file, proto::setattr_mode | proto::setattr_link, 0604).status == 0);
        CHECK(set(fixture.at("all/link"), proto::setattr_mode | times_of_link, 0604).status == EOPNOTSUPP);
        CHECK(set(fixture.at("all/none"), times_of_link).status == ENOENT);
        CHECK(set(file, proto::setattr_link).step == Step::parse);
        CHECK(set(fixture.at("read/link"), times_of_link).step == Step::decide);
        CHECK(set(fixture.at("modes/link"), times_of_link).step == Step::inspect);
    });
    const auto modified = [&](const char* name) {
        struct stat status{};
        REQUIRE(::lstat(fixture.at(name).c_str(), &status) == 0);
        return status.st_mtim.tv_sec;
    };
    for (const char* name : {"all/link", "all/out", "all/sub"}) CHECK(modified(name) == 1'000'000'000);
    for (const char* name : {"all/file", "read/link", "modes/link"}) CHECK(modified(name) != 1'000'000'000);
    CHECK(fixture.status("all/file").st_mode == (S_IFREG | 0604));
}

TEST_CASE("setattr: a file with another name is left alone by a rule that allows setattr and no writing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("modes/file");
    std::filesystem::create_hard_link(path, fixture.at("read/other"));
    with_peer(fixture, [&](TestPeer& peer) {
        const auto refused = peer.call({.call = Call::setattr, .flags = 1, .mode = 0777, .path = path});
        CHECK(refused.status == EACCES);
        CHECK(refused.step == Step::inspect);
    });
    CHECK(fixture.status("modes/file").st_mode == (S_IFREG | 0600));
}

TEST_CASE(
    "xattr: attributes of users are read, listed, written and removed; others do not exist for a peer") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.file("all/file");
    REQUIRE(::setxattr(path.c_str(), "trusted.fdbroker", "x", 1, 0) == 0);
    with_peer(fixture, [&](TestPeer& peer) {
        const std::string name = with_nul("user.color");
        const std::string value = proto::attribute_payload("user.color", std::string("r\0d", 3));
        CHECK(peer.call({.call = Call::xattr_read, .path = path, .payload = name}).status == ENODATA);
        CHECK(peer.call({.call = Call::xattr_write, .flags = XATTR_REPLACE, .path = path, .payload = value})
                  .status == ENODATA);
        CHECK(peer.call({.call = Call::xattr_write, .path = path, .payload = value}).status == 0);
        CHECK(peer.call({.call = Call::xattr_read, .path = path, .payload = name}).payload ==
              std::string("r\0d", 3));
        CHECK(peer.call({.call = Call::xattr_list, .path = path}).payload == name);
        CHECK(peer.call({.call = Call::xattr_remove, .path = path, .payload = name}).status == 0);
        CHECK(peer.call({.call = Call::xattr_list, .path = path}).payload.empty());
        for (const char* other : {"trusted.fdbroker", "security.capability", "system.posix_acl_access"})
            CHECK(peer.call({.call = Call::xattr_read, .path = path, .payload = with_nul(other)}).step ==
                  Step::parse);
    });
}

TEST_CASE(
    "symlinks: followed where every name on the way is allowed, and each name is decided before it is "
    "touched") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_links(fixture);
    with_peer(fixture, [&](TestPeer& peer) {
        const auto open = [&](const char* name, std::uint32_t flags = 0) {
            return peer.open(fixture.at(name), flags);
        };
        CHECK(open("links/beside").content() == "here");
        CHECK(open("links/target").content() == "target");
        CHECK(open("links/absolute").content() == "target");
        CHECK(open("links/directory/deep").content() == "deep");
        CHECK(open("links/twice").content() == "here");
        CHECK(open("links/chain39").content() == "here");
        CHECK(open("links/chain40").status == ELOOP);
        CHECK(open("links/itself").status == ELOOP);
        CHECK(open("links/beside", O_NOFOLLOW).status == ELOOP);
        const auto hidden = open("links/to-hidden");
        const auto missing = open("links/to-missing");
        CHECK(hidden.status == ENOENT);
        CHECK(hidden.step == missing.step);
        CHECK(hidden.reason == missing.reason);
        CHECK(open("links/na\nme\xff").reason ==
              "\"" + fixture.at("links/na") +
                  "\\x0ame\\xff\" is a symbolic link that leads to what no rule allows");
        const auto shadow = open("links/shadow");
        CHECK(shadow.status == EACCES);
        CHECK(shadow.step == Step::decide);
        CHECK(shadow.reason ==
              "\"" + fixture.at("links/shadow") + "\" is a symbolic link that leads to what no rule allows");
        // Whether there is something where no rule leads shows in nothing.
        const auto nowhere = open("links/nowhere");
        CHECK(nowhere.status == shadow.status);
        CHECK(nowhere.step == shadow.step);
        CHECK(open("links/refusing").status == 0);
        const auto status = peer.call({.call = Call::stat, .path = fixture.at("links/twice")});
        CHECK(S_ISREG(proto::read_status(status.payload)->mode));
    });
}
