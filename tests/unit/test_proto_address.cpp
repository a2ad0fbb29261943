// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "proto/address.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::proto {
namespace {

using test::DescriptorTable;

int fault_of(std::string_view text) {
    const auto address = Address::parse(text);
    return address ? 0 : address.error().errno_value;
}

UniqueFd listener(const Address& address) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto name = address.socket_name();
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
    REQUIRE(::listen(socket.number(), 4) == 0);
    return socket;
}

UniqueFd one_end(int type) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, type, 0, ends.data()) == 0);
    const UniqueFd other(ends[1]);
    return UniqueFd(ends[0]);
}

Address descriptor_address(const UniqueFd& descriptor) {
    return *Address::parse("fd:" + std::to_string(descriptor.number()));
}

}  // namespace

TEST_CASE("address: paths, abstract names and descriptors are told apart and come back as text") {
    for (const std::string text :
         {"/run/fdbroker/opener.sock", "relative.sock", "./@x", "@name", "@/n", "fd:0", "fd:37"}) {
        const auto address = Address::parse(text);
        REQUIRE(address.has_value());
        CHECK(address->text() == text);
    }
    CHECK(std::get<PathAddress>(Address::parse("./fd:3")->value()).path == "./fd:3");
    CHECK(std::get<AbstractAddress>(Address::parse("@fd:3")->value()).name == "fd:3");
    CHECK(std::get<DescriptorAddress>(Address::parse("fd:2147483647")->value()).number == 2147483647);
}

TEST_CASE("address: a text that names no socket is refused with a reason") {
    for (const std::string_view text :
         {"", "@", "fd:", "fd:x", "fd:-1", "fd:+1", "fd: 1", "fd:1 ", "fd:1x", "fd:2147483648"}) {
        CAPTURE(text);
        CHECK(fault_of(text) == EINVAL);
        CHECK_FALSE(Address::parse(text).error().detail.empty());
    }
    CHECK(fault_of(std::string_view("/a\0b", 4)) == EINVAL);
    CHECK(fault_of(std::string_view("@a\0b", 4)) == EINVAL);
}

TEST_CASE("address: a name of 107 bytes fits, one of 108 does not") {
    CHECK(fault_of(std::string(107, 'p')) == 0);
    CHECK(fault_of(std::string(108, 'p')) == ENAMETOOLONG);
    CHECK(fault_of("@" + std::string(107, 'p')) == 0);
    CHECK(fault_of("@" + std::string(108, 'p')) == ENAMETOOLONG);
    const auto name = Address::parse(std::string(107, 'p'))->socket_name();
    CHECK(name.size == sizeof(sockaddr_un));
    CHECK(name.address.sun_path[107] == '\0');
}

TEST_CASE("address: connecting reaches a listener by path and by abstract name, close-on-exec") {
    const test::TempDir directory;
    const auto before = DescriptorTable::now();
    for (const std::string& text : {(directory / "socket").string(), "@" + (directory / "name").string()}) {
        CAPTURE(text);
        const Address address = *Address::parse(text);
        CHECK_FALSE(connect(address).has_value());
        const UniqueFd listening = listener(address);
        const auto connection = connect(address);
        REQUIRE(connection.has_value());
        CHECK((::fcntl(connection->number(), F_GETFD) & FD_CLOEXEC) != 0);
        const UniqueFd accepted(::accept4(listening.number(), nullptr, nullptr, SOCK_CLOEXEC));
        CHECK(accepted);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("address: no listener is ENOENT, a stale one ECONNREFUSED, another type EPROTOTYPE") {
    const test::TempDir directory;
    const Address address = *Address::parse((directory / "socket").string());
    CHECK(connect(address).error().errno_value == ENOENT);
    {
        const UniqueFd listening = listener(address);
    }
    CHECK(connect(address).error().errno_value == ECONNREFUSED);
    const Address other = *Address::parse((directory / "stream").string());
    const UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto name = other.socket_name();
    REQUIRE(::bind(stream.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
    REQUIRE(::listen(stream.number(), 4) == 0);
    CHECK(connect(other).error().errno_value == EPROTOTYPE);
    CHECK(connect(other).error().message().find(other.text()) != std::string::npos);
}

TEST_CASE("address: an inherited socket is taken over and becomes close-on-exec") {
    UniqueFd inherited = one_end(SOCK_SEQPACKET);
    const Address address = descriptor_address(inherited);
    const int number = inherited.number();
    auto connection = connect(address);
    REQUIRE(connection.has_value());
    CHECK(inherited.release() == number);
    CHECK(connection->number() == number);
    CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("address: an inherited descriptor that is no connected SEQPACKET socket is left alone") {
    const auto before = DescriptorTable::now();
    {
        const UniqueFd stream = one_end(SOCK_STREAM);
        CHECK(connect(descriptor_address(stream)).error().errno_value == EPROTOTYPE);
        const UniqueFd unconnected(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
        CHECK(connect(descriptor_address(unconnected)).error().errno_value == ENOTCONN);
        const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        CHECK(connect(descriptor_address(file)).error().errno_value == ENOTSOCK);
        CHECK((::fcntl(stream.number(), F_GETFD) & FD_CLOEXEC) == 0);
        CHECK(::fcntl(unconnected.number(), F_GETFD) != -1);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
    CHECK(connect(*Address::parse("fd:1000000")).error().errno_value == EBADF);
}

}  // namespace fdbroker::proto
