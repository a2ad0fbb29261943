// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "proto/channel.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/wait.hpp"
#include "tests/unit/test_proto_table.hpp"

namespace fdbroker::proto {
namespace {

using test::DescriptorTable;
using test::TableWithRoom;

struct Pair {
    UniqueFd ours;
    UniqueFd theirs;
};

Pair socket_pair() {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

UniqueFd memory_file(const std::string& content) {
    UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
    REQUIRE(file);
    REQUIRE(::write(file.number(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    return file;
}

std::string content_of(const UniqueFd& file) {
    std::array<char, 64> text{};
    const ssize_t size = ::pread(file.number(), text.data(), text.size(), 0);
    REQUIRE(size >= 0);
    return {text.data(), static_cast<std::size_t>(size)};
}

std::vector<std::byte> message_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

std::string_view text_of(std::span<const std::byte> message) {
    return {reinterpret_cast<const char*>(message.data()), message.size()};
}

// As a peer would that does not use our send(): an empty message, any number of descriptors.
void send_raw(const UniqueFd& socket, std::string_view text, const std::vector<int>& descriptors) {
    iovec part{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    std::vector<char> control(CMSG_SPACE(sizeof(int) * descriptors.size()));
    if (!descriptors.empty()) {
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
        std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(int) * descriptors.size());
    }
    REQUIRE(::sendmsg(socket.number(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

struct Received {
    std::array<std::byte, max_message_size> bytes;
    ReceivedDescriptors descriptors;
};

}  // namespace

TEST_CASE("channel: a message and its descriptors arrive in order, close-on-exec, and go with their owner") {
    const auto before = DescriptorTable::now();
    {
        const Pair pair = socket_pair();
        const UniqueFd first = memory_file("first");
        const UniqueFd second = memory_file("second");
        const std::array borrowed{first.borrow(), second.borrow()};
        REQUIRE(send(pair.theirs.borrow(), message_of("two files"), borrowed, Wait::block));
        Received room;
        const auto message = receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block);
        REQUIRE(message.has_value());
        CHECK(text_of(*message) == "two files");
        REQUIRE(room.descriptors.count() == 2);
        CHECK_FALSE(room.descriptors.cut_short());
        const UniqueFd taken = room.descriptors.take(1);
        CHECK(content_of(taken) == "second");
        CHECK((::fcntl(taken.number(), F_GETFD) & FD_CLOEXEC) != 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("channel: a later receive closes what was not taken of an earlier one") {
    const auto before = DescriptorTable::now();
    {
        const Pair pair = socket_pair();
        const std::array borrowed{pair.theirs.borrow()};
        Received room;
        for (int round = 0; round < 3; ++round) {
            REQUIRE(send(pair.theirs.borrow(), message_of("m"), borrowed, Wait::block));
            const auto open = DescriptorTable::now().count();
            REQUIRE(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block));
            CHECK(DescriptorTable::now().count() == open + (round == 0 ? 1 : 0));
        }
        REQUIRE(send(pair.theirs.borrow(), message_of("m"), {}, Wait::block));
        REQUIRE(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block));
        CHECK(room.descriptors.count() == 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("channel: 253 descriptors travel in one message, 254 do not") {
    const auto before = DescriptorTable::now();
    {
        const Pair pair = socket_pair();
        std::vector<BorrowedFd> borrowed(max_requests, pair.theirs.borrow());
        REQUIRE(send(pair.theirs.borrow(), message_of("m"), borrowed, Wait::block));
        Received room;
        REQUIRE(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block));
        CHECK(room.descriptors.count() == max_requests);
        for (const std::size_t count : {max_requests + 1, 10 * max_requests}) {
            borrowed.resize(count, pair.theirs.borrow());
            const auto refused = send(pair.theirs.borrow(), message_of("m"), borrowed, Wait::block);
            REQUIRE_FALSE(refused.has_value());
            CHECK(refused.error().errno_value == EINVAL);
        }
        CHECK_FALSE(test::is_readable_now(pair.ours.borrow()));
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("channel: an end that takes no descriptors refuses the message that brings one, and holds none") {
    const Pair pair = socket_pair();
    Received room;
    for (const std::size_t count : {1u, 2u, 3u, 253u}) {
        CAPTURE(count);
        send_raw(pair.theirs, "here", std::vector<int>(count, pair.theirs.number()));
        const auto before = DescriptorTable::now();
        const auto message = receive(pair.ours.borrow(), room.bytes, Wait::block);
        REQUIRE_FALSE(message.has_value());
        CHECK(message.error().kind == ErrorKind::protocol);
        CHECK(DescriptorTable::now().changes_since(before) == "");
    }
    REQUIRE(send(pair.theirs.borrow(), message_of("plain"), {}, Wait::block));
    CHECK(text_of(*receive(pair.ours.borrow(), room.bytes, Wait::block)) == "plain");
}

TEST_CASE("channel: an empty message ends the connection, and what it brought is closed") {
    const Pair pair = socket_pair();
    Received room;
    for (const bool with_descriptors : {true, false}) {
        send_raw(pair.theirs, "", {pair.theirs.number(), pair.theirs.number()});
        const auto before = DescriptorTable::now();
        const auto message = with_descriptors
                                 ? receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block)
                                 : receive(pair.ours.borrow(), room.bytes, Wait::block);
        REQUIRE_FALSE(message.has_value());
        CHECK(message.error().kind == ErrorKind::disconnected);
        CHECK(room.descriptors.count() == 0);
        CHECK(DescriptorTable::now().changes_since(before) == "");
    }
    CHECK(send(pair.ours.borrow(), {}, {}, Wait::block).error().errno_value == EINVAL);
}

TEST_CASE("channel: a message longer than the buffer is refused, and what it brought is closed") {
    const Pair pair = socket_pair();
    ReceivedDescriptors descriptors;
    std::array<std::byte, 4> small{};
    for (const bool with_descriptors : {true, false}) {
        send_raw(pair.theirs, "12345", std::vector<int>(with_descriptors ? 2 : 0, pair.theirs.number()));
        const auto before = DescriptorTable::now();
        const auto message = with_descriptors ? receive(pair.ours.borrow(), small, descriptors, Wait::block)
                                              : receive(pair.ours.borrow(), small, Wait::block);
        REQUIRE_FALSE(message.has_value());
        CHECK(message.error().kind == ErrorKind::protocol);
        CHECK(DescriptorTable::now().changes_since(before) == "");
        REQUIRE(send(pair.theirs.borrow(), message_of("1234"), {}, Wait::block));
        CHECK(receive(pair.ours.borrow(), small, Wait::block).has_value());
    }
}

TEST_CASE("channel: a full descriptor table is EMFILE, and nothing that came stays open") {
    FDBROKER_SKIP_UNLESS(TableWithRoom::is_possible(),
                         "needs a limit of descriptors that the kernel knows of");
    const Pair pair = socket_pair();
    Received room;
    for (const std::size_t fitting : {0u, 1u, 2u}) {
        CAPTURE(fitting);
        send_raw(pair.theirs, "here", std::vector<int>(3, pair.theirs.number()));
        const auto before = DescriptorTable::now();
        {
            const TableWithRoom table(fitting);
            const auto message = receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block);
            REQUIRE_FALSE(message.has_value());
            CHECK(message.error().kind == ErrorKind::system);
            CHECK(message.error().errno_value == EMFILE);
            CHECK(room.descriptors.count() == 0);
        }
        CHECK(DescriptorTable::now().changes_since(before) == "");
    }
}

TEST_CASE("channel: a full descriptor table can be told to keep the message and what did fit") {
    FDBROKER_SKIP_UNLESS(TableWithRoom::is_possible(),
                         "needs a limit of descriptors that the kernel knows of");
    const auto before = DescriptorTable::now();
    for (const std::size_t fitting : {0u, 1u, 2u, 3u}) {
        CAPTURE(fitting);
        const Pair pair = socket_pair();
        Received room;
        const UniqueFd file = memory_file("first");
        send_raw(pair.theirs, "here", {file.number(), pair.theirs.number(), pair.theirs.number()});
        const TableWithRoom table(fitting);
        const auto message =
            receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block, FullTable::keep);
        REQUIRE(message.has_value());
        CHECK(text_of(*message) == "here");
        CHECK(room.descriptors.count() == fitting);
        CHECK(room.descriptors.cut_short() == (fitting < 3));
        if (fitting > 0) CHECK(content_of(room.descriptors.take(0)) == "first");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("channel: adopting more descriptors than a message can bring closes the rest") {
    const auto before = DescriptorTable::now();
    {
        const UniqueFd file = memory_file("x");
        ReceivedDescriptors descriptors;
        std::vector<int> copies;
        for (std::size_t count = 0; count < max_requests + 3; ++count)
            copies.push_back(::fcntl(file.number(), F_DUPFD_CLOEXEC, 0));
        descriptors.adopt(copies);
        CHECK(descriptors.count() == max_requests + 1);
        CHECK(::fcntl(copies.back(), F_GETFD) == -1);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("channel: without waiting, nothing to read and a full socket are EAGAIN") {
    const Pair pair = socket_pair();
    Received room;
    CHECK(receive(pair.ours.borrow(), room.bytes, Wait::never).error().errno_value == EAGAIN);
    CHECK(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::never).error().errno_value ==
          EAGAIN);
    const auto message = message_of(std::string(4096, 'x'));
    std::size_t sent = 0;
    Result<void> result;
    do result = send(pair.theirs.borrow(), message, {}, Wait::never);
    while (result && ++sent < 100000);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().kind == ErrorKind::system);
    CHECK(result.error().errno_value == EAGAIN);
    for (std::size_t received = 0; received < sent; ++received)
        CHECK(receive(pair.ours.borrow(), room.bytes, Wait::never)->size() == 4096);
    CHECK(receive(pair.ours.borrow(), room.bytes, Wait::never).error().errno_value == EAGAIN);
}

TEST_CASE("channel: a peer that is gone is a disconnection and raises no signal") {
    Pair pair = socket_pair();
    Received room;
    // SIGPIPE would end this process.
    struct sigaction before{};
    struct sigaction by_default{};
    by_default.sa_handler = SIG_DFL;
    REQUIRE(::sigaction(SIGPIPE, &by_default, &before) == 0);
    REQUIRE(send(pair.ours.borrow(), message_of("unread"), {}, Wait::block));
    pair.theirs.reset();
    const std::array borrowed{pair.ours.borrow()};
    CHECK(send(pair.ours.borrow(), message_of("m"), {}, Wait::block).error().kind == ErrorKind::disconnected);
    CHECK(send(pair.ours.borrow(), message_of("m"), borrowed, Wait::block).error().kind ==
          ErrorKind::disconnected);
    CHECK(receive(pair.ours.borrow(), room.bytes, Wait::block).error().kind == ErrorKind::disconnected);
    CHECK(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block).error().kind ==
          ErrorKind::disconnected);
    REQUIRE(::sigaction(SIGPIPE, &before, nullptr) == 0);
}

namespace {
std::atomic<int> signals_seen = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // as a signal handler needs it
}  // namespace

TEST_CASE("channel: a signal does not end the wait for a message") {
    struct sigaction action{};
    struct sigaction before{};
    action.sa_handler = [](int) { ++signals_seen; };  // and no SA_RESTART
    REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
    const Pair pair = socket_pair();
    const auto wake = [&pair, waiter = ::pthread_self()](int seen_before) {
        // Until the handler has run in the waiting thread; then the message.
        while (signals_seen == seen_before) {
            ::pthread_kill(waiter, SIGUSR1);
            std::this_thread::yield();
        }
        static_cast<void>(send(pair.theirs.borrow(), message_of("late"), {}, Wait::block));
    };
    Received room;
    {
        std::jthread waker(wake, signals_seen.load());
        CHECK(receive(pair.ours.borrow(), room.bytes, Wait::block).has_value());
    }
    {
        std::jthread waker(wake, signals_seen.load());
        CHECK(receive(pair.ours.borrow(), room.bytes, room.descriptors, Wait::block).has_value());
    }
    REQUIRE(::sigaction(SIGUSR1, &before, nullptr) == 0);
}

}  // namespace fdbroker::proto
