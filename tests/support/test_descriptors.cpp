// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "proto/unique_fd.hpp"
#include "tests/support/descriptors.hpp"

namespace fdbroker::test {

TEST_CASE("descriptors: two looks without a change are equal") {
    const DescriptorTable before = DescriptorTable::now();
    const DescriptorTable after = DescriptorTable::now();
    CHECK(after == before);
    CHECK(after.changes_since(before) == "");
    CHECK(before.count() >= 3);
}

TEST_CASE("descriptors: opened, closed and replaced descriptors are named") {
    const proto::UniqueFd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    proto::UniqueFd closed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int number = closed.number();
    const DescriptorTable before = DescriptorTable::now();

    closed.reset();
    CHECK(DescriptorTable::now().changes_since(before) == "-" + std::to_string(number) + " /dev/null");

    const proto::UniqueFd replacement(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    REQUIRE(replacement.number() == number);
    const std::string n = std::to_string(number);
    CHECK(DescriptorTable::now().changes_since(before) == "-" + n + " /dev/null\n+" + n + " /dev/zero");
}

TEST_CASE("descriptors: another process's table is that process's") {
    CHECK(DescriptorTable::of(::getpid()) == DescriptorTable::now());
    CHECK_THROWS(DescriptorTable::of(-1));
}

}  // namespace fdbroker::test
