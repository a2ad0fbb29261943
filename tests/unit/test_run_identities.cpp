// SPDX-License-Identifier: MIT
// Owners of files, asked for over a connection that signals use as well.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <span>
#include <vector>

#include "proto/channel.hpp"
#include "proto/unique_fd.hpp"
#include "worker/run/identities.hpp"

using namespace fdbroker;

TEST_CASE("run: signals that come before the answer about an owner are passed on, in their order") {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const proto::UniqueFd inside(ends[0]);
    const proto::UniqueFd outside(ends[1]);
    const worker::Owner told{.uid = 12, .gid = 34};
    for (const int signal : {SIGTERM, SIGHUP}) {
        const std::array message{static_cast<std::byte>(signal)};
        REQUIRE(proto::send(outside.borrow(), message, {}, proto::Wait::never));
    }
    REQUIRE(proto::send(outside.borrow(), std::as_bytes(std::span(&told, 1)), {}, proto::Wait::never));

    std::vector<int> passed;
    worker::Identities identities(inside.borrow(), [&](int signal) { passed.push_back(signal); });
    const proto::UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    struct stat status{};
    REQUIRE(::fstat(file.number(), &status) == 0);
    const worker::Owner owner = identities.ask_for_owner(status, file.borrow());
    CHECK(owner.uid == told.uid);
    CHECK(owner.gid == told.gid);
    CHECK(passed == std::vector{SIGTERM, SIGHUP});
}
