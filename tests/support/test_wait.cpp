// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

TEST_CASE("wait: data and the end of a stream are events, and their absence ends at the deadline") {
    std::array<int, 2> ends;
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const proto::UniqueFd read_end(ends[0]);
    proto::UniqueFd write_end(ends[1]);
    CHECK_FALSE(is_readable_now(read_end.borrow()));
    CHECK_THROWS_AS(wait_readable(read_end.borrow(), std::chrono::steady_clock::now()), std::runtime_error);
    REQUIRE(::write(write_end.number(), "x", 1) == 1);
    CHECK_NOTHROW(wait_readable(read_end.borrow()));
    CHECK(wait_for_events(read_end.borrow(), POLLIN) == POLLIN);
    write_end.reset();
    CHECK((wait_for_events(read_end.borrow(), POLLIN) & POLLHUP) != 0);
}

TEST_CASE("wait: a path that appears or goes is seen, whether before or after the wait began") {
    const TempDir directory;
    const DescriptorTable before = DescriptorTable::now();
    write_file(directory / "there", "");
    CHECK_NOTHROW(wait_for_path(directory / "there"));
    {
        const Process process = Process::start({.arguments = {"touch", directory / "later"}});
        CHECK_NOTHROW(wait_for_path(directory / "later"));
    }
    {
        const Process process = Process::start({.arguments = {"rm", directory / "later"}});
        CHECK_NOTHROW(wait_for_removal(directory / "later"));
    }
    CHECK_THROWS_AS(wait_for_path(directory / "never", std::chrono::steady_clock::now()), std::runtime_error);
    CHECK_THROWS_AS(wait_for_removal(directory / "there", std::chrono::steady_clock::now()),
                    std::runtime_error);
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("wait: a socket that is bound and does not listen is no listener") {
    const TempDir directory;
    const std::string path = directory / "socket";
    const proto::UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    CHECK_THROWS_AS(wait_for_listener(path, std::chrono::steady_clock::now()), std::runtime_error);
    REQUIRE(::listen(socket.number(), 1) == 0);
    CHECK_NOTHROW(wait_for_listener(path));
}

TEST_CASE("wait: text in a file is seen when it has been written") {
    const TempDir directory;
    const std::string file = directory / "file";
    const Process process =
        Process::start({.arguments = {"sh", "-c", "echo one > " + file + "; echo two >> " + file}});
    CHECK(wait_for_text(file, "two") == "one\ntwo\n");
    CHECK_THROWS_AS(wait_for_text(file, "three", std::chrono::steady_clock::now()), std::runtime_error);
}

}  // namespace fdbroker::test
