// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

TEST_CASE("child: a body that does nothing wrong comes back quietly, and leaves no descriptor") {
    const DescriptorTable before = DescriptorTable::now();
    CHECK_NOTHROW(run_in_child([] {}));
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("child: an exception comes back with its words") {
    CHECK_THROWS_WITH(run_in_child([] { throw std::runtime_error("no such luck"); }),
                      "in the child: no such luck");
}

TEST_CASE("child: an assertion that fails comes back as a failure") {
    // The child's own report goes to a place where nobody takes it for this test's.
    const auto silently = [](const auto& body) {
        return [body] {
            ::close(STDOUT_FILENO);
            body();
        };
    };
    CHECK_THROWS_WITH(run_in_child(silently([] { CHECK(1 == 2); })),
                      "in the child: 1 assertions failed, see above");
    CHECK_THROWS_WITH(run_in_child(silently([] { REQUIRE(1 == 2); })),
                      "in the child: 1 assertions failed, see above");
    CHECK_THROWS_WITH(run_in_child(silently([] { FAIL("no"); })),
                      "in the child: 1 assertions failed, see above");
}

TEST_CASE("child: a signal that ends it comes back by its number") {
    CHECK_THROWS_WITH(run_in_child([] { ::raise(SIGKILL); }), "the child was ended by signal 9");
}

TEST_CASE("child: a child that does not end is ended at the deadline") {
    CHECK_THROWS_AS(run_in_child([] { ::pause(); }, std::chrono::steady_clock::now()), std::runtime_error);
}

TEST_CASE("child: run_as has the uid, the groups, and no way back") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_as(Identity{.uid = some_user, .gid = 30010, .groups = {30011}}, [] {
        CHECK(::geteuid() == some_user);
        CHECK(::getegid() == 30010);
        gid_t group = 0;
        CHECK(::getgroups(1, &group) == 1);
        CHECK(group == 30011);
        CHECK(::setuid(0) == -1);
    });
    CHECK(::geteuid() == 0);
}

TEST_CASE("child: a mount in a private namespace is not seen outside") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs a mount namespace");
    const TempDir directory;
    write_file(directory / "file", "outside");
    run_in_mount_namespace([&] {
        REQUIRE(::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, nullptr) == 0);
        CHECK_FALSE(std::filesystem::exists(directory / "file"));
    });
    CHECK(read_file(directory / "file") == "outside");
}

}  // namespace fdbroker::test
