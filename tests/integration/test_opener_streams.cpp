// SPDX-License-Identifier: MIT
// deliver: stream through a real opener: what goes through, and what nobody can do with it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <filesystem>
#include <sstream>
#include <string>

#include "tests/integration/opener_support.hpp"
#include "tests/integration/streams_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Step;

TEST_CASE("stream: read from its beginning to its end, and in no other way") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        const auto stream = peer.open(fixture.data + "/large");
        REQUIRE(stream.status == 0);
        struct stat status{};
        REQUIRE(::fstat(stream.fd.number(), &status) == 0);
        CHECK(S_ISFIFO(status.st_mode));
        CHECK(::fcntl(stream.fd.number(), F_GETFL) == O_RDONLY);
        CHECK(::lseek(stream.fd.number(), 0, SEEK_SET) < 0);
        CHECK(::mmap(nullptr, 1, PROT_READ, MAP_SHARED, stream.fd.number(), 0) == MAP_FAILED);
        // The other end is the broker's.
        const std::string name = "/proc/self/fd/" + std::to_string(stream.fd.number());
        CHECK(::open(name.c_str(), O_WRONLY | O_CLOEXEC) < 0);
        CHECK(rest_of(stream) == large);

        const auto impatient = peer.open(fixture.data + "/large", O_NONBLOCK);
        CHECK(::fcntl(impatient.fd.number(), F_GETFL) == (O_RDONLY | O_NONBLOCK));
    });
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: written bytes are appended, whatever the writer does") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log";
    RunningOpener opener(fixture.directory, fixture.policy());
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        const auto stream = peer.open(log, appending);
        REQUIRE(stream.status == 0);
        CHECK(::ftruncate(stream.fd.number(), 0) < 0);
        CHECK(::fallocate(stream.fd.number(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4) < 0);
        CHECK(::pwrite(stream.fd.number(), "x", 1, 0) < 0);
        CHECK(::fcntl(stream.fd.number(), F_SETFL, O_NONBLOCK) == 0);
        // Packets of pipe(7): each is read for itself.
        CHECK(::fcntl(stream.fd.number(), F_SETFL, O_DIRECT) == 0);
        const std::string name = "/proc/self/fd/" + std::to_string(stream.fd.number());
        CHECK(::open(name.c_str(), O_RDONLY | O_CLOEXEC) < 0);
        write_all(stream, "second\n");
        const auto synchronous = peer.open(log, appending | O_SYNC);
        write_all(synchronous, large);
    });
    wait_for_size(log, 13 + large.size());
    const std::string text = read_file(log);
    CHECK(text.starts_with("first\n"));
    CHECK(text.find("second\n") != std::string::npos);
    CHECK(text.size() == 13 + large.size());
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a piece written at once stays whole beside another stream's") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/new";
    constexpr int pieces = 200;
    RunningOpener opener(fixture.directory, fixture.policy());
    {
        TestPeer peer(opener.socket());
        const auto one = peer.open(log, appending | O_CREAT), other = peer.open(log, appending | O_CREAT);
        struct stat status{};
        REQUIRE(::stat(log.c_str(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0640);
        for (int piece = 0; piece < pieces; ++piece) {
            write_all(one, std::string(PIPE_BUF - 100, 'a') + "\n");
            write_all(other, std::string(PIPE_BUF - 7, 'b') + "\n");
        }
    }
    wait_for_size(log, std::size_t{pieces} * (2 * PIPE_BUF - 105));
    std::istringstream lines(read_file(log));
    for (std::string line; std::getline(lines, line);) {
        REQUIRE_FALSE(line.empty());
        CHECK(line == std::string(line[0] == 'a' ? PIPE_BUF - 100 : PIPE_BUF - 7, line[0]));
    }
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: other flags of open(2) are refused, and nothing is made or truncated") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.data + "/log", fresh = fixture.data + "/fresh";
    make_directory(fixture.data + "/directory");
    REQUIRE(::mkfifo((fixture.data + "/fifo").c_str(), 0600) == 0);
    write_file(fixture.data + "/huge", large + large + "x");
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    for (const int flags : {O_RDWR | O_APPEND, O_RDONLY | O_CREAT, O_RDONLY | O_DIRECT,
                            O_WRONLY | O_APPEND | O_DIRECT, O_RDWR | O_APPEND | O_CREAT}) {
        CAPTURE(flags);
        const auto answer = peer.open(fresh, static_cast<std::uint32_t>(flags));
        CHECK(answer.status == EINVAL);
        CHECK(answer.step == Step::deliver);
        CHECK_FALSE(answer.reason.empty());
    }
    CHECK(peer.open(fixture.data + "/directory", O_DIRECTORY).status == EINVAL);
    CHECK(peer.open(log, O_WRONLY).status == EACCES);
    CHECK(peer.open(log, appending | O_TRUNC).status == EACCES);
    CHECK(peer.open(fixture.data + "/directory").status == EISDIR);
    CHECK(peer.open(fixture.data + "/fifo").status == EACCES);
    CHECK(peer.open(fixture.data + "/huge").status == EFBIG);
    CHECK_FALSE(std::filesystem::exists(fresh));
    CHECK(read_file(log) == "first\n");
    CHECK(opener.stop() == 0);
}

TEST_CASE("stream: a batch of all or nothing has none") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.data + "/large";
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    const auto answers = peer.call_together({{.path = path}, {.path = path}});
    CHECK(answers[0].status == EINVAL);
    CHECK(answers[1].status == EINVAL);
    CHECK(opener.stop() == 0);
}
