// SPDX-License-Identifier: MIT
// Files, directories and links that have just been made: how open(2), set-group-ID directories, default ACLs and
// append-only directories would have them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>

#include "proto/unique_fd.hpp"
#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

// xattr of acl(5): version 2, then tag, permissions and id of each entry, in the order of the tags.
struct AclEntry {
    std::uint16_t tag, permissions;
    std::uint32_t id;
};
struct DefaultAcl {
    std::uint32_t version = 2;
    std::array<AclEntry, 3> entries{
        {{0x01, 7, ~0U}, {0x04, 5, ~0U}, {0x20, 0, ~0U}}};  // u::rwx,g::r-x,o::---
};

bool set_default_acl(const std::string& directory) {
    const DefaultAcl acl;
    return ::setxattr(directory.c_str(), "system.posix_acl_default", &acl, sizeof acl, 0) == 0;
}

// chattr +a for as long as it lives.
class AppendOnly {
  public:
    explicit AppendOnly(const std::string& directory)
        : directory_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
        is_set_ = ::ioctl(directory_.number(), FS_IOC_GETFLAGS, &flags_) == 0 && set(flags_ | FS_APPEND_FL);
    }
    AppendOnly(const AppendOnly&) = delete;
    AppendOnly& operator=(const AppendOnly&) = delete;
    ~AppendOnly() {
        if (is_set_) set(flags_);
    }
    bool is_set() const { return is_set_; }

  private:
    bool set(int flags) const { return ::ioctl(directory_.number(), FS_IOC_SETFLAGS, &flags) == 0; }
    proto::UniqueFd directory_;
    int flags_ = 0;
    bool is_set_ = false;
};

TestPeer::Answer make_link(TestPeer& peer, const std::string& path) {
    return peer.call({.call = Call::symlink, .path = path, .payload = with_nul("target")});
}

}  // namespace

TEST_CASE("create: a file that has just been made is delivered by its name, as open(2) does") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        for (const int more : {0, O_EXCL, O_APPEND, O_NONBLOCK}) {
            for (const int access : {O_RDONLY, O_WRONLY, O_RDWR}) {
                if (more == O_APPEND && access == O_RDONLY) continue;
                const std::string path =
                    fixture.at("all/made" + std::to_string(more) + "-" + std::to_string(access));
                const auto made = peer.open(path, static_cast<std::uint32_t>(access | more | O_CREAT));
                REQUIRE(made.status == 0);
                // O_NOFOLLOW is the opener's own, and O_LARGEFILE the kernel's.
                constexpr int of_others = O_NOFOLLOW | 0100000;
                CHECK((::fcntl(made.fd.number(), F_GETFL) & ~of_others) == (access | (more & ~O_EXCL)));
                struct stat own;
                REQUIRE(::fstat(made.fd.number(), &own) == 0);
                CHECK(own.st_nlink == 1);
                const auto shown =
                    std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(made.fd.number()))
                        .string();
                CHECK(shown.ends_with(std::filesystem::path(path).filename().string()));
            }
        }
    });
    CHECK(fixture.status("all/made0-1").st_mode == (S_IFREG | 0640));
}

TEST_CASE("create: group: directory is that of the directory, and mkdir hands the set-group-ID bit on") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    for (const bool bit : {true, false}) {
        const std::string inside = bit ? "shared/bit" : "shared/none";
        make_directory(fixture.at(inside), {.mode = 0777});
        REQUIRE(::chown(fixture.at(inside).c_str(), 0, spool_group) == 0);
        REQUIRE(::chmod(fixture.at(inside).c_str(), bit ? 02777 : 0777) == 0);
    }
    REQUIRE(::chmod(fixture.at("all/sub").c_str(), 02777) == 0);
    with_peer(fixture, [&](TestPeer& peer) {
        for (const std::string inside : {"shared/bit", "shared/none"}) {
            CHECK(peer.call({.call = Call::mkdir, .path = fixture.at(inside + "/made")}).status == 0);
            CHECK(peer.call({.call = Call::mkdir, .path = fixture.at(inside + "/made/below")}).status == 0);
            CHECK(peer.open(fixture.at(inside + "/made/file"), O_WRONLY | O_CREAT).status == 0);
            CHECK(make_link(peer, fixture.at(inside + "/link")).status == 0);
        }
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("all/sub/made")}).status == 0);
    });
    for (const bool bit : {true, false}) {
        const std::string inside = bit ? "shared/bit" : "shared/none";
        for (const char* name : {"/made", "/made/below"}) {
            CHECK(fixture.status(inside + name).st_mode == (S_IFDIR | (bit ? 02770U : 0770U)));
            CHECK(fixture.status(inside + name).st_gid == spool_group);
            CHECK(fixture.status(inside + name).st_uid == some_user);
        }
        CHECK(fixture.status(inside + "/made/file").st_mode == (S_IFREG | 0660));
        CHECK(fixture.status(inside + "/made/file").st_gid == spool_group);
        CHECK(fixture.status(inside + "/link").st_gid == spool_group);
    }
    // The rule's group wins over the set-group-ID bit.
    CHECK(fixture.status("all/sub/made").st_mode == (S_IFDIR | 0750));
    CHECK(fixture.status("all/sub/made").st_gid == some_user);
}

TEST_CASE("create: a default ACL takes away what open(2) and mkdir(2) would not give") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    FDBROKER_SKIP_UNLESS(set_default_acl(fixture.at("shared")), "the filesystem has no ACLs");
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.open(fixture.at("shared/file"), O_WRONLY | O_CREAT).status == 0);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("shared/made")}).status == 0);
        auto put = peer.call({.call = Call::put, .path = fixture.at("shared/put")});
        REQUIRE(put.status == 0);
        put.fd.reset();
        CHECK(peer.call({.call = Call::commit, .path = fixture.at("shared/put"), .payload = put.payload})
                  .status == 0);
    });
    CHECK(fixture.status("shared/file").st_mode == (S_IFREG | 0640));
    CHECK(fixture.status("shared/put").st_mode == (S_IFREG | 0640));
    CHECK(fixture.status("shared/made").st_mode == (S_IFDIR | 0750));
    CHECK(fixture.status("shared/put").st_uid == some_user);
}

TEST_CASE("create: in an append-only directory names are made at once, and nothing is left behind") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const AppendOnly append_only(fixture.at("shared"));
    FDBROKER_SKIP_UNLESS(append_only.is_set(), "needs CAP_LINUX_IMMUTABLE and a filesystem with attributes");
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("shared/made")}).status == 0);
        CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("shared/made")}).status == EEXIST);
        CHECK(make_link(peer, fixture.at("shared/link")).status == 0);
        CHECK(make_link(peer, fixture.at("shared/link")).status == EEXIST);
        CHECK(peer.open(fixture.at("shared/file"), O_WRONLY | O_CREAT).status == 0);
        const auto put = peer.call({.call = Call::put, .path = fixture.at("shared/put")});
        CHECK(put.status == EPERM);
        CHECK(put.reason.find("append-only") != std::string::npos);
    });
    CHECK(fixture.status("shared/made").st_mode == (S_IFDIR | 0770));
    CHECK(fixture.status("shared/made").st_uid == some_user);
    CHECK(fixture.status("shared/link").st_uid == some_user);
    CHECK(std::distance(std::filesystem::directory_iterator(fixture.at("shared")), {}) == 3);
}
