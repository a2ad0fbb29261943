// SPDX-License-Identifier: MIT
// The kernel's answers to who holds a descriptor on a mount that the private root is made of. By itself:
// <sys/mount.h> and <linux/mount.h> cannot be included together (glibc 2.36).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "opener/confinement/kernel_calls.hpp"
#include "proto/unique_fd.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

namespace kernel = opener::kernel;

// A detached copy of the mount that `directory` lies on, from there on, read-only.
proto::UniqueFd read_only_copy(const std::string& directory) {
    proto::UniqueFd tree(kernel::open_tree(AT_FDCWD, directory.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    REQUIRE(tree);
    mount_attr restricted{};
    restricted.attr_set = MOUNT_ATTR_RDONLY;
    REQUIRE(kernel::mount_setattr(tree.number(), "", AT_EMPTY_PATH, restricted) == 0);
    return tree;
}

int open_again(const proto::UniqueFd& fd, int flags) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd.number());
    return attempt_open(::open(path.c_str(), flags | O_CLOEXEC));
}

}  // namespace

TEST_CASE("kernel: a file is opened again through /proc/self/fd on the mount that its descriptor is on") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    write_file(top / "file", "text");
    run_in_mount_namespace([&] {
        const proto::UniqueFd tree = read_only_copy(top.path());
        const proto::UniqueFd writable(::open((top / "file").c_str(), O_RDONLY | O_CLOEXEC));
        const proto::UniqueFd file(::openat(tree.number(), "file", O_RDONLY | O_CLOEXEC));
        CHECK(open_again(writable, O_RDWR) == 0);
        CHECK(attempt(::fchmod(writable.number(), 0644)) == 0);
        CHECK(open_again(file, O_RDONLY) == 0);
        CHECK(open_again(file, O_RDWR) == EROFS);
        CHECK(attempt(::fchmod(file.number(), 0644)) == EROFS);
    });
}

TEST_CASE(
    "kernel: whoever holds the root of a detached mount lifts its restrictions, but not by a file on it") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    write_file(top / "file", "text", {.mode = 0666});
    run_in_mount_namespace([&] {
        const proto::UniqueFd tree = read_only_copy(top.path());
        const proto::UniqueFd file(::openat(tree.number(), "file", O_RDONLY | O_CLOEXEC));
        run_as(some_user, [&] {
            // Where users may make no namespaces, nobody lifts anything.
            if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return;
            const auto lift = [](const proto::UniqueFd& fd) {
                mount_attr lifted{};
                lifted.attr_clr = MOUNT_ATTR_RDONLY;
                return attempt(kernel::mount_setattr(fd.number(), "", AT_EMPTY_PATH, lifted));
            };
            CHECK(lift(file) == EINVAL);
            CHECK(open_again(file, O_RDWR) == EROFS);
            CHECK(lift(tree) == 0);
            CHECK(open_again(file, O_RDWR) == 0);
        });
    });
}

TEST_CASE(
    "kernel: a directory on a detached mount that is closed keeps its restrictions, and leads nowhere up") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    make_directory(top / "inside");
    write_file(top / "beside", "text", {.mode = 0666});
    write_file(top / "inside/file", "text", {.mode = 0666});
    run_in_mount_namespace([&] {
        proto::UniqueFd tree = read_only_copy(top / "inside");
        const proto::UniqueFd directory(::openat(tree.number(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        tree.reset();
        CHECK(attempt_open(::openat(directory.number(), "../beside", O_RDONLY | O_CLOEXEC)) == ENOENT);
        CHECK(attempt_open(::openat(directory.number(), "../file", O_RDONLY | O_CLOEXEC)) == 0);
        run_as(some_user, [&] {
            static_cast<void>(::unshare(CLONE_NEWUSER | CLONE_NEWNS));
            mount_attr lifted{};
            lifted.attr_clr = MOUNT_ATTR_RDONLY;
            const int lift = attempt(kernel::mount_setattr(directory.number(), "", AT_EMPTY_PATH, lifted));
            CHECK((lift == EINVAL || lift == EPERM));
            CHECK(attempt_open(::openat(directory.number(), "file", O_RDWR | O_CLOEXEC)) == EROFS);
        });
    });
}

}  // namespace fdbroker::test
