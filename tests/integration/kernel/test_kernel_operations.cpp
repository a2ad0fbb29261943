// SPDX-License-Identifier: MIT
// What the kernel does with links, unnamed files and leases, as the operations rest on it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "proto/unique_fd.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker::test;
using fdbroker::proto::UniqueFd;

namespace {

UniqueFd open_without_links(const std::filesystem::path& path, std::uint64_t flags) {
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
}

mode_t type_of(const UniqueFd& fd) {
    struct stat status{};
    CHECK(::fstat(fd.number(), &status) == 0);
    return status.st_mode & S_IFMT;
}

int lease(const UniqueFd& file) {
    return ::fcntl(file.number(), F_SETLEASE, F_RDLCK) == 0 ? 0 : errno;
}

}  // namespace

TEST_CASE("kernel: openat2 without symlinks opens a last link itself with O_PATH, and names it a link else") {
    const TempDir directory(TempDir::Place::var_tmp);
    make_directory(directory / "real");
    write_file(directory / "real/file", "x");
    std::filesystem::create_symlink("real", directory / "link");
    const UniqueFd link = open_without_links(directory / "link", O_PATH | O_NOFOLLOW);
    REQUIRE(link);
    CHECK(type_of(link) == S_IFLNK);
    for (const std::uint64_t flags : {std::uint64_t{O_PATH | O_DIRECTORY},
                                      std::uint64_t{O_RDONLY | O_DIRECTORY}, std::uint64_t{O_RDONLY}}) {
        CHECK_FALSE(open_without_links(directory / "link", flags));
        CHECK(errno == ELOOP);
    }
    // With both flags the link is called no directory, which hides that it is a link.
    CHECK_FALSE(open_without_links(directory / "link", O_PATH | O_DIRECTORY | O_NOFOLLOW));
    CHECK(errno == ENOTDIR);
    CHECK_FALSE(open_without_links(directory / "link/file", O_PATH | O_NOFOLLOW));
    CHECK(errno == ELOOP);
}

TEST_CASE("kernel: an unnamed file gets its name by its descriptor, and never one that is taken") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs CAP_DAC_READ_SEARCH");
    const TempDir directory(TempDir::Place::var_tmp);
    const UniqueFd file(::open(directory.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    REQUIRE(file);
    REQUIRE(::fchmod(file.number(), 0640) == 0);
    REQUIRE(::fchown(file.number(), 30001, 30002) == 0);
    CHECK(std::filesystem::is_empty(directory.path()));
    const std::string name = directory / "name";
    REQUIRE(::linkat(file.number(), "", AT_FDCWD, name.c_str(), AT_EMPTY_PATH) == 0);
    struct stat status{};
    REQUIRE(::lstat(name.c_str(), &status) == 0);
    CHECK(status.st_mode == (S_IFREG | 0640));
    CHECK(status.st_uid == 30001);
    const UniqueFd other(::open(directory.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    CHECK(::linkat(other.number(), "", AT_FDCWD, name.c_str(), AT_EMPTY_PATH) != 0);
    CHECK(errno == EEXIST);
}

TEST_CASE("kernel: a read lease is refused while anybody may write, by a descriptor or by a mapping") {
    const TempDir directory(TempDir::Place::var_tmp);
    write_file(directory / "file", "content");
    const std::string path = directory / "file";
    ::signal(SIGIO, SIG_IGN);
    const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(lease(reader) == 0);
    CHECK(::fcntl(reader.number(), F_GETLEASE) == F_RDLCK);
    // Opening the file for writing breaks the lease, and the holder sees that.
    CHECK(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC) < 0);
    CHECK(errno == EAGAIN);
    CHECK(::fcntl(reader.number(), F_GETLEASE) == F_UNLCK);
    REQUIRE(::fcntl(reader.number(), F_SETLEASE, F_UNLCK) == 0);
    UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(writer);
    CHECK(lease(reader) == EAGAIN);
    void* const mapping = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer.number(), 0);
    REQUIRE(mapping != MAP_FAILED);
    writer.reset();
    CHECK(lease(reader) == EAGAIN);
    ::munmap(mapping, 4096);
    CHECK(lease(reader) == 0);
}

TEST_CASE(
    "kernel: an unnamed file that was given away can be read, and its writers seen, once it has had a name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs CAP_DAC_READ_SEARCH");
    const TempDir directory(TempDir::Place::var_tmp);
    const std::string name = directory / "name";
    ::signal(SIGIO, SIG_IGN);
    UniqueFd writer(::open(directory.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    REQUIRE(writer);
    UniqueFd duplicate(::fcntl(writer.number(), F_DUPFD_CLOEXEC, 0));
    REQUIRE(::linkat(writer.number(), "", AT_FDCWD, name.c_str(), AT_EMPTY_PATH) == 0);
    const UniqueFd reader(::open(name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    REQUIRE(::unlink(name.c_str()) == 0);
    writer.reset();
    CHECK(lease(reader) == EAGAIN);
    duplicate.reset();
    CHECK(lease(reader) == 0);
}

TEST_CASE("kernel: an unnamed file whose name was taken away again gets no other one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs CAP_DAC_READ_SEARCH");
    const TempDir directory(TempDir::Place::var_tmp);
    const std::string name = directory / "name";
    const UniqueFd file(::open(directory.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    REQUIRE(::linkat(file.number(), "", AT_FDCWD, name.c_str(), AT_EMPTY_PATH) == 0);
    const UniqueFd reader(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::unlink(name.c_str()) == 0);
    for (const UniqueFd* either : {&file, &reader}) {
        CHECK(::linkat(either->number(), "", AT_FDCWD, name.c_str(), AT_EMPTY_PATH) != 0);
        CHECK(errno == ENOENT);
    }
}

TEST_CASE(
    "kernel: inotify takes the directory a process went into, and tells of its removal once nobody is in "
    "it") {
    const TempDir directory(TempDir::Place::var_tmp);
    const std::string path = directory / "sub";
    make_directory(path);
    run_in_child([&] {
        UniqueFd sub(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        const UniqueFd events(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
        REQUIRE(::fchdir(sub.number()) == 0);
        REQUIRE(::inotify_add_watch(events.number(), ".", IN_DELETE_SELF | IN_ONLYDIR) >= 0);
        REQUIRE(::rmdir(path.c_str()) == 0);
        REQUIRE(::chdir("/") == 0);
        CHECK_FALSE(is_readable_now(events.borrow()));
        sub.reset();
        CHECK(is_readable_now(events.borrow()));
    });
}

TEST_CASE("kernel: a pipe of one page has room only while it is empty") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const UniqueFd reading(ends[0]), writing(ends[1]);
    REQUIRE(::fcntl(writing.number(), F_SETPIPE_SZ, 1) > 0);
    const auto has_room = [&] {
        pollfd pipe{writing.number(), POLLOUT, 0};
        return ::poll(&pipe, 1, 0) == 1;
    };
    CHECK(has_room());
    char byte = 1;
    REQUIRE(::write(writing.number(), &byte, 1) == 1);
    CHECK_FALSE(has_room());
    REQUIRE(::read(reading.number(), &byte, 1) == 1);
    CHECK(has_room());
}
