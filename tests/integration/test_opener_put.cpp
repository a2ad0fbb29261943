// SPDX-License-Identifier: MIT
// put and commit through a real opener: what is replaced, whole or not at all, and what is not.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "tests/integration/put_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Step;
using proto::UniqueFd;

namespace {

// As long as somebody can write to the file, however often it is tried.
void check_busy(const Fixture& fixture, TestPeer& peer, const std::string& path, std::uint64_t number) {
    for (unsigned time = 0; time < 2; ++time) {
        const auto busy = commit(peer, path, number);
        CHECK(busy.status == EBUSY);
        CHECK(busy.step == Step::deliver);
        CHECK(fixture.names("put") == 1);
    }
}

// A shared mapping of a page, which outlives the descriptors.
void* map_for_writing(const UniqueFd& file) {
    const std::string again = "/proc/self/fd/" + std::to_string(file.number());
    const UniqueFd both(::open(again.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(both);
    void* const mapping = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, both.number(), 0);
    REQUIRE(mapping != MAP_FAILED);
    return mapping;
}

}  // namespace

TEST_CASE("put: a file has its old content until the commit, and then all of the new one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    const DescriptorTable before = DescriptorTable::now();
    {
        TestPeer peer(opener.socket());
        const UniqueFd old(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        Begun begun = begin_put(peer, path);
        REQUIRE(begun.answer.status == 0);
        CHECK((::fcntl(begun.answer.fd.number(), F_GETFL) & O_ACCMODE) == O_WRONLY);
        CHECK(begun.write("new content"));
        CHECK(fixture.content("put/file") == "old");
        CHECK(fixture.names("put") == 1);
        begun.answer.fd.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new content");
        CHECK(fixture.names("put") == 1);
        // A reader of the old file goes on reading it.
        char byte = 0;
        CHECK(::pread(old.number(), &byte, 1, 0) == 1);
        CHECK(byte == 'o');
        // Once is all.
        CHECK(commit(peer, path, begun.number).status == ESTALE);
    }
    CHECK(DescriptorTable::now() == before);
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "put: the new file has the owner and the mode of the rule's create, and until the commit only the "
    "opener") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.at("owned/file"), "old", {.mode = 0600, .uid = 0, .gid = 0});
    with_peer(fixture, [&](TestPeer& peer) {
        const Begun begun = begin_put(peer, fixture.at("put/file"));
        REQUIRE(begun.answer.status == 0);
        const std::string again = "/proc/self/fd/" + std::to_string(begun.answer.fd.number());
        for (const int access : {O_RDONLY, O_WRONLY, O_RDWR}) {
            CHECK_FALSE(UniqueFd(::open(again.c_str(), access | O_CLOEXEC)));
            CHECK(errno == EACCES);
        }
        CHECK(::fchmod(begun.answer.fd.number(), 06777) != 0);
        CHECK(replace(peer, fixture.at("put/file"), "new") == 0);
        CHECK(replace(peer, fixture.at("put/made"), "new") == 0);
        CHECK(replace(peer, fixture.at("owned/file"), "new") == 0);
    });
    for (const char* name : {"put/file", "put/made"}) {
        CHECK(fixture.status(name).st_uid == some_user);
        CHECK(fixture.status(name).st_mode == (S_IFREG | 0640));
        CHECK(fixture.content(name) == "new");
    }
    CHECK(fixture.status("owned/file").st_uid == 30011);
    CHECK(fixture.status("owned/file").st_gid == 30012);
    CHECK(fixture.status("owned/file").st_mode == (S_IFREG | 0604));
}

TEST_CASE(
    "put: a commit that must not replace leaves what is there, and the put may be committed all the same") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::string path = fixture.at("put/file");
    const std::uint64_t number = filled(peer, path, "new");
    CHECK(commit(peer, path, number, RENAME_NOREPLACE).status == EEXIST);
    CHECK(fixture.content("put/file") == "old");
    CHECK(commit(peer, path, number).status == 0);
    CHECK(fixture.content("put/file") == "new");
    CHECK(replace(peer, fixture.at("put/made"), "made", RENAME_NOREPLACE) == 0);
    CHECK(commit(peer, path, number, RENAME_EXCHANGE).step == Step::parse);
    CHECK(fixture.content("put/made") == "made");
}

TEST_CASE("put: files that came or went meanwhile are judged at the commit") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::string path = fixture.at("put/file");
    const std::string made = fixture.at("put/made");
    const std::uint64_t vanished = filled(peer, path, "new");
    const std::uint64_t appeared = filled(peer, made, "made");
    std::filesystem::remove(path);
    CHECK(commit(peer, path, vanished).status == 0);
    CHECK(fixture.content("put/file") == "new");
    std::filesystem::create_symlink(path, made);
    CHECK(commit(peer, made, appeared).status == ELOOP);
    std::filesystem::remove(made);
    std::filesystem::create_hard_link(path, made);
    CHECK(commit(peer, made, appeared).status == EACCES);
    std::filesystem::remove(made);
    REQUIRE(::mkfifo(made.c_str(), 0600) == 0);
    CHECK(commit(peer, made, appeared).status == EACCES);
    std::filesystem::remove(made);
    make_directory(made);
    CHECK(commit(peer, made, appeared).status == EISDIR);
    std::filesystem::remove(made);
    CHECK(fixture.content("put/file") == "new");
    CHECK(commit(peer, made, appeared).status == 0);
    CHECK(fixture.content("put/made") == "made");
    CHECK(fixture.names("put") == 2);
}

TEST_CASE("put: as long as somebody can write to it, it cannot be committed, and afterwards it can") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());

    SUBCASE("a duplicate of the descriptor") {
        Begun begun = begin_put(peer, path);
        UniqueFd duplicate(::fcntl(begun.answer.fd.number(), F_DUPFD_CLOEXEC, 0));
        CHECK(begun.write("new"));
        begun.answer.fd.reset();
        check_busy(fixture, peer, path, begun.number);
        CHECK(::write(duplicate.number(), "er", 2) == 2);
        duplicate.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "newer");
        CHECK(commit(peer, path, begun.number).status == ESTALE);
    }
    SUBCASE("a child that has inherited it") {
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        Process child = Process::start(
            {.arguments = {"sleep", "infinity"}, .descriptors = {{3, begun.answer.fd.borrow()}}});
        begun.answer.fd.reset();
        check_busy(fixture, peer, path, begun.number);
        child.signal(SIGKILL);
        child.wait();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new");
    }
    SUBCASE("a mapping") {
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        void* const mapping = map_for_writing(begun.answer.fd);
        begun.answer.fd.reset();
        check_busy(fixture, peer, path, begun.number);
        std::memcpy(mapping, "map", 3);
        ::munmap(mapping, 4096);
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "map");
    }
    SUBCASE("a descriptor that is still on its way") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        const UniqueFd sender(ends[0]);
        UniqueFd receiver(ends[1]);
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        const proto::BorrowedFd file = begun.answer.fd.borrow();
        const std::byte text[1]{};
        REQUIRE(proto::send(sender.borrow(), text, std::span(&file, 1), proto::Wait::block));
        begun.answer.fd.reset();
        check_busy(fixture, peer, path, begun.number);
        receiver.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new");
    }
    CHECK(fixture.names("put") == 1);
}

TEST_CASE("put: only what the rules let the peer write, create and truncate is replaced") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_symlink(fixture.at("put/file"), fixture.at("put/link"));
    write_file(fixture.at("put/linked"), "old");
    std::filesystem::create_hard_link(fixture.at("put/linked"), fixture.at("put/other"));
    REQUIRE(::mkfifo(fixture.at("put/fifo").c_str(), 0600) == 0);
    make_directory(fixture.at("put/directory"));
    write_file(fixture.at("small/large"), "more than eight");
    write_file(fixture.at("written/file"), "old");
    const std::size_t names = fixture.names("put");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto refused = [&](const char* name) { return begin_put(peer, fixture.at(name)).answer; };
        const auto link = refused("put/link");
        CHECK(link.status == ELOOP);
        CHECK(link.reason.find("put/link\" is a symbolic link") != std::string::npos);
        CHECK(refused("put/linked").status == EACCES);
        CHECK(refused("put/fifo").status == EACCES);
        CHECK(refused("put/directory").status == EISDIR);
        CHECK(refused("put").status == EACCES);
        CHECK(refused("small/large").status == EFBIG);
        CHECK(refused("written/file").step == Step::decide);
        CHECK(refused("owned/no/file").status == ENOENT);
        CHECK(refused("elsewhere").step == Step::decide);
        CHECK(peer.call({.call = Call::put, .flags = O_EXCL, .path = fixture.at("put/file")}).step ==
              Step::parse);
        CHECK(begin_put(peer, fixture.at("put/a/b/file")).answer.status == 0);
        const auto together = peer.call_together({{.call = Call::put, .path = fixture.at("put/file")}});
        CHECK(together.at(0).status == EINVAL);
    });
    CHECK(fixture.names("put") == names + 1);
    CHECK(fixture.names("put/a/b") == 0);
}

TEST_CASE("put: a file that has become larger than the rule's max_size is not committed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(replace(peer, fixture.at("small/file"), "nine byte") == EFBIG);
        CHECK(replace(peer, fixture.at("small/file"), "eight by") == 0);
    });
    CHECK(fixture.content("small/file") == "eight by");
    CHECK(fixture.names("small") == 1);
}

TEST_CASE(
    "put: where links are followed, the file that one leads to is replaced, and the record says which") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.at("follow/file"), "old");
    std::filesystem::create_symlink("file", fixture.at("follow/link"));
    std::filesystem::create_symlink(fixture.at("written/file"), fixture.at("follow/out"));
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    CHECK(replace(peer, fixture.at("follow/link"), "new") == 0);
    CHECK(fixture.content("follow/file") == "new");
    CHECK(std::filesystem::is_symlink(fixture.at("follow/link")));
    CHECK(begin_put(peer, fixture.at("follow/out")).answer.step == Step::decide);
    const auto records = opener.wait_for_event("request", 3);
    std::size_t led = 0;
    for (const auto& record : records)
        led += record.value("final_path", "") == fixture.at("follow/file") &&
               record.value("rule", "") == "follow";
    CHECK(led == 2);
}
