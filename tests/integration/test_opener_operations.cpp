// Every operation through a real opener: what it does, what it leaves alone, and what it refuses.
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <set>
#include <thread>

#include "proto/payload.hpp"
#include "tests/integration/missing_calls.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;

namespace {

constexpr uid_t spool_owner = 30011;
constexpr gid_t spool_group = 30012;

// A directory that only root may enter, and one rule for each kind of access to what is in it.
class Fixture {
  public:
    Fixture() {
        for (const char* name : {"", "read", "all", "all/sub", "moved", "owned", "links", "modes", "kept",
                                 "copied", "streamed", "directories"})
            make_directory(at(name), {.mode = 0700});
    }
    std::string at(std::string_view name) const { return (data_ / name).string(); }
    // A file of root's that nobody else may open.
    std::string file(std::string_view name, std::string_view content = "content") const {
        write_file(at(name), content, {.mode = 0600, .uid = 0, .gid = 0});
        return at(name);
    }
    struct stat status(std::string_view name) const {
        struct stat status{};
        CHECK(::lstat(at(name).c_str(), &status) == 0);
        return status;
    }
    bool exists(std::string_view name) const {
        return std::filesystem::exists(std::filesystem::symlink_status(at(name)));
    }

    std::string policy() const {
        std::string text = R"(version: 1
rules:
  - {name: read, allow: [read, list, stat, readlink], paths: ["DATA/read/**"]}
  - name: all
    allow: [read, append, manage, stat, list, readlink, symlink, setattr, xattr]
    paths: ["DATA/all/**"]
    create: {mode: "0640", parents: true}
    files: {types: [regular, fifo, directory]}
  - name: moved
    allow: [read, rename, mkdir, stat]
    paths: ["DATA/moved/**", "DATA/read/moved"]
    rename: {directories: true}
  - name: owned
    allow: [modify, mkdir, stat]
    paths: ["DATA/owned/**"]
    create: {mode: "0604", owner: "30011", group: "30012"}
  - {name: followed, allow: [read, stat], paths: ["DATA/links/**", "DATA/read/target"], symlinks: follow}
  - {name: copied, allow: [read], paths: ["DATA/copied/**"], deliver: snapshot, files: {max_size: 1MiB}}
  - {name: streamed, allow: [read], paths: ["DATA/streamed/**"], deliver: stream}
  - {name: directories, allow: [list, stat], paths: ["DATA/directories/**"], deliver: directory}
  - {name: modes, allow: [setattr], paths: ["DATA/modes/**"]}
  - {name: kept, allow: [manage], paths: ["DATA/kept/**"], files: {owners: ["${user}"]}}
  - {name: hidden, deny: all, paths: ["DATA/**/hidden"], reveal: ENOENT}
  - {name: keys, deny: [write], paths: ["DATA/**/*.key"]}
)";
        for (std::size_t place; (place = text.find("DATA")) != std::string::npos;)
            text.replace(place, 4, data_.string());
        return text;
    }
    const TempDir& directory() const { return directory_; }

  private:
    TempDir directory_{TempDir::Place::var_tmp};
    std::filesystem::path data_ = directory_ / "data";
};

// An opener over a Fixture and a peer of an ordinary user.
template <typename Body>
void with_peer(const Fixture& fixture, Body body) {
    RunningOpener opener(fixture.directory(), fixture.policy());
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        body(peer);
    });
    CHECK(opener.stop() == 0);
}

std::string with_nul(std::string text) {
    text.push_back('\0');
    return text;
}

int access_mode(const TestPeer::Answer& answer) {
    return ::fcntl(answer.fd.number(), F_GETFL) & O_ACCMODE;
}

bool write_to(const TestPeer::Answer& answer, std::string_view text) {
    return ::write(answer.fd.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
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

TEST_CASE("open: a directory is delivered only by a rule that says so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(peer.open(fixture.at("all/sub"), O_DIRECTORY).status == EISDIR);
        CHECK(peer.open(fixture.at("all/sub")).status == EISDIR);
        CHECK(peer.open(fixture.at("all/sub"), O_WRONLY).status == EISDIR);
    });
}

TEST_CASE("open: a rule with deliver: directory delivers directories, for looking into alone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.at("directories/sub"));
    fixture.file("directories/sub/file");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto directory = peer.open(fixture.at("directories/sub"), O_DIRECTORY);
        REQUIRE(directory.status == 0);
        CHECK(::faccessat(directory.fd.number(), "file", F_OK, 0) == 0);
        CHECK(peer.open(fixture.at("directories/sub/file"), O_DIRECTORY).status == ENOTDIR);
        CHECK(peer.open(fixture.at("directories/sub/file")).step == Step::decide);
    });
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
        CHECK(peer.open(fixture.at("streamed/file")).status == EOPNOTSUPP);
    });
    const proto::UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    with_peer(fixture, [&](TestPeer& peer) {
        const auto refused = peer.open(path);
        CHECK(refused.status == EAGAIN);
        CHECK(refused.step == Step::deliver);
    });
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
        with_peer(fixture, [&](TestPeer& peer) {
            CHECK(peer.call({.call = Call::mkdir, .path = fixture.at("all/sub/new")}).status == EIO);
        });
    });
    CHECK(std::filesystem::is_empty(fixture.at("all/sub")));
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
    const auto remove = [&](TestPeer& peer, const char* name, std::uint32_t flags = 0) {
        return peer.call({.call = Call::remove, .flags = flags, .path = fixture.at(name)});
    };
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(remove(peer, "all/file").status == 0);
        CHECK(remove(peer, "all/file").status == ENOENT);
        CHECK(remove(peer, "all/link").status == 0);
        CHECK(remove(peer, "all/empty").status == EISDIR);
        CHECK(remove(peer, "all/empty", AT_REMOVEDIR).status == 0);
        CHECK(remove(peer, "all/sub", AT_REMOVEDIR).status == ENOTEMPTY);
        CHECK(remove(peer, "all/tls.key").step == Step::decide);
        CHECK(remove(peer, "read/file").step == Step::decide);
        CHECK(remove(peer, "all", AT_REMOVEDIR).status != 0);
    });
    for (const char* name : {"all/file", "all/link", "all/empty"}) CHECK_FALSE(fixture.exists(name));
    for (const char* name : {"all/tls.key", "read/file", "all/sub/inside", "all"})
        CHECK(fixture.exists(name));
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
