// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

TEST_CASE("files: a temporary directory goes with all it holds") {
    const DescriptorTable before = DescriptorTable::now();
    std::filesystem::path path;
    {
        const TempDir directory(TempDir::Place::var_tmp, 0750);
        path = directory.path();
        make_directory(directory / "below");
        write_file(directory / "below/file", "content");
        struct stat status{};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0750);
    }
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("files: two temporary directories are two") {
    const TempDir one;
    const TempDir other;
    CHECK(one.path() != other.path());
}

TEST_CASE("files: a file has the content, the mode and the owner it was given, whatever the umask") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to give files away");
    const TempDir directory;
    const mode_t old_mask = ::umask(077);
    write_file(directory / "file", "hello", {.mode = 0664, .uid = some_user, .gid = other_user});
    ::umask(old_mask);
    struct stat status{};
    REQUIRE(::stat((directory / "file").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0664);
    CHECK(status.st_uid == some_user);
    CHECK(status.st_gid == other_user);
    CHECK(read_file(directory / "file") == "hello");

    write_file(directory / "file", "x");
    CHECK(read_file(directory / "file") == "x");
}

TEST_CASE("files: a file that cannot be read or written is an exception") {
    const TempDir directory;
    CHECK_THROWS(read_file(directory / "missing"));
    CHECK_THROWS(write_file(directory / "missing/file", ""));
}

}  // namespace fdbroker::test
