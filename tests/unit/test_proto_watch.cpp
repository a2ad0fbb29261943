// SPDX-License-Identifier: MIT
// The difference between two looks, as a watch tells it.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "proto/watch.hpp"

namespace fdbroker::test {
namespace {

using namespace proto;

constexpr Status file{.mask = STATX_BASIC_STATS | STATX_BTIME,
                      .links = 1,
                      .uid = 7,
                      .gid = 8,
                      .mode = S_IFREG | 0640,
                      .inode = 11,
                      .size = 100,
                      .access = {.seconds = 10},
                      .birth = {.seconds = 20},
                      .change = {.seconds = 30},
                      .modification = {.seconds = 30},
                      .dev_major = 1,
                      .dev_minor = 2};

// How a file that `change` was done to differs from what it was.
template <typename Change>
unsigned after(Change change) {
    Status now = file;
    change(now);
    return changes_between(file, now);
}

}  // namespace

TEST_CASE("watch: a file that is the same, missing as before, or was only read has not changed") {
    CHECK(changes_between(std::nullopt, std::nullopt) == 0);
    CHECK(after([](Status&) {}) == 0);
    CHECK(after([](Status& now) { now.access.seconds = 11; }) == 0);
    CHECK(after([](Status& now) { now.blocks = 8; }) == 0);
}

TEST_CASE("watch: an object that comes, goes or is another one is all of the changes") {
    CHECK(changes_between(std::nullopt, file) == watch_all);
    CHECK(changes_between(file, std::nullopt) == watch_all);
    CHECK(after([](Status& now) { now.inode = 12; }) == watch_all);
    CHECK(after([](Status& now) { now.dev_major = 2; }) == watch_all);
    CHECK(after([](Status& now) { now.dev_minor = 3; }) == watch_all);
    CHECK(after([](Status& now) { now.mode = S_IFDIR | 0640; }) == watch_all);
    // A new file with the number of the old one.
    CHECK(after([](Status& now) { now.birth.nanoseconds = 1; }) == watch_all);
    // A filesystem that tells no birth.
    CHECK(after([](Status& now) {
              now.birth.nanoseconds = 1;
              now.mask = STATX_BASIC_STATS;
          }) == 0);
}

TEST_CASE("watch: size and modification time are content, what only the change time tells is an attribute") {
    const auto write = [](Status& now) { now.change = now.modification = {.seconds = 31}; };
    CHECK(after(write) == watch_content);
    CHECK(after([](Status& now) { now.size = 101; }) == watch_content);
    CHECK(after([](Status& now) { now.mode ^= 0040; }) == watch_attributes);
    CHECK(after([](Status& now) { now.uid = 9; }) == watch_attributes);
    CHECK(after([](Status& now) { now.gid = 9; }) == watch_attributes);
    CHECK(after([](Status& now) { now.links = 2; }) == watch_attributes);
    CHECK(after([](Status& now) { now.attributes = STATX_ATTR_IMMUTABLE; }) == watch_attributes);
    CHECK(after([](Status& now) { now.change = {.seconds = 31}; }) == watch_attributes);
    CHECK(after([&](Status& now) {
              write(now);
              now.change.seconds = 32;
          }) == (watch_content | watch_attributes));
    CHECK(after([&](Status& now) {
              write(now);
              now.mode ^= 0040;
          }) == (watch_content | watch_attributes));
}

}  // namespace fdbroker::test
