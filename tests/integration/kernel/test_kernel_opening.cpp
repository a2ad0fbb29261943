// SPDX-License-Identifier: MIT
// What the kernel does when something is opened, and what a descriptor allows afterwards, as the resolver rests on it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/landlock.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/terminal.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using proto::UniqueFd;
namespace kernel = opener::kernel;

// The errno that it ends with, 0: it is opened.
int attempt(const std::string& path, std::uint64_t flags, std::uint64_t resolve = 0, mode_t mode = 0) {
    const UniqueFd fd(kernel::openat2(AT_FDCWD, path.c_str(), flags | O_CLOEXEC, resolve, mode));
    return fd ? 0 : errno;
}

}  // namespace

TEST_CASE("kernel: magic links of procfs are links to openat2, on the way and in the last place") {
    for (const char* path : {"/proc/self/exe", "/proc/self/root/etc", "/proc/self/fd/0"})
        CHECK(attempt(path, O_PATH, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS) == ELOOP);
    CHECK(attempt("/proc/thread-self", O_RDONLY | O_NOFOLLOW, RESOLVE_NO_SYMLINKS) == ELOOP);
}

TEST_CASE(
    "kernel: a walk that may cross no mount is stopped by a bind mount of the same filesystem as well") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    for (const char* name : {"inner", "other"}) make_directory(top / name);
    write_file(top / "other/file", "x");
    run_in_mount_namespace([&] {
        REQUIRE(kernel::mount((top / "other").c_str(), (top / "inner").c_str(), nullptr, MS_BIND) == 0);
        const UniqueFd directory(::open(top.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        CHECK(kernel::openat2(directory.number(), "inner/file", O_RDONLY | O_CLOEXEC, RESOLVE_NO_XDEV) < 0);
        CHECK(errno == EXDEV);
        CHECK(UniqueFd(kernel::openat2(directory.number(), "inner/file", O_RDONLY | O_CLOEXEC, 0)));
        REQUIRE(kernel::umount2((top / "inner").c_str(), kernel::detach) == 0);
    });
}

TEST_CASE("kernel: with O_NONBLOCK a FIFO holds nobody up, and with O_PATH its other end sees nothing") {
    const TempDir top;
    const std::string fifo = top / "fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    CHECK(attempt(fifo, O_WRONLY | O_NONBLOCK) == ENXIO);
    CHECK(attempt(fifo, O_RDONLY | O_NONBLOCK) == 0);
    const UniqueFd looked(kernel::openat2(AT_FDCWD, fifo.c_str(), O_PATH | O_CLOEXEC, 0));
    REQUIRE(looked);
    // Nobody has it open for reading, as far as a writer can tell.
    CHECK(attempt(fifo, O_WRONLY | O_NONBLOCK) == ENXIO);
}

TEST_CASE("kernel: a terminal is opened by open alone, not by O_PATH, nor where its mount has no devices") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const Terminal looked, opened, kept;
    CHECK(attempt(looked.name(), O_PATH) == 0);
    CHECK_FALSE(looked.was_opened());
    CHECK(attempt(opened.name(), O_RDWR | O_NOCTTY) == 0);
    CHECK(opened.was_opened());
    run_in_mount_namespace([&] {
        const UniqueFd tree(kernel::open_tree(AT_FDCWD, "/dev/pts",
                                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | unsigned{AT_RECURSIVE}));
        REQUIRE(tree);
        mount_attr no_devices{};
        no_devices.attr_set = MOUNT_ATTR_NODEV;
        REQUIRE(kernel::mount_setattr(tree.number(), "", AT_EMPTY_PATH | AT_RECURSIVE, no_devices) == 0);
        // A mount that is attached nowhere can be walked all the same.
        const std::string name = std::filesystem::path(kept.name()).filename();
        CHECK(kernel::openat2(tree.number(), name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC, 0) < 0);
        CHECK(errno == EACCES);
        CHECK(UniqueFd(kernel::openat2(tree.number(), name.c_str(), O_PATH | O_CLOEXEC, 0)));
    });
    CHECK_FALSE(kept.was_opened());
}

TEST_CASE("kernel: a session leader acquires the terminal that it opens, unless it says O_NOCTTY") {
    const Terminal terminal;
    run_in_child([&] {
        REQUIRE(::setsid() > 0);
        const UniqueFd first(::open(terminal.name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
        REQUIRE(first);
        CHECK(attempt("/dev/tty", O_RDWR) == ENXIO);
        const UniqueFd second(::open(terminal.name().c_str(), O_RDWR | O_CLOEXEC));
        CHECK(attempt("/dev/tty", O_RDWR) == 0);
    });
}

TEST_CASE("kernel: O_TRUNC truncates what is opened for reading") {
    const TempDir top;
    write_file(top / "file", "content");
    CHECK(attempt(top / "file", O_RDONLY | O_TRUNC) == 0);
    CHECK(read_file(top / "file").empty());
}

TEST_CASE("kernel: another's lease is EAGAIN with O_NONBLOCK, and nothing to O_PATH") {
    const TempDir top(TempDir::Place::var_tmp);
    const std::string path = top / "file";
    write_file(path, "content");
    ::signal(SIGIO, SIG_IGN);
    const UniqueFd holder(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::fcntl(holder.number(), F_SETLEASE, F_WRLCK) == 0);
    CHECK(attempt(path, O_PATH) == 0);
    CHECK(attempt(path, O_RDONLY | O_NONBLOCK) == EAGAIN);
}

TEST_CASE("kernel: only what is cached is opened with RESOLVE_CACHED, and nothing is made or cut") {
    const TempDir top(TempDir::Place::var_tmp);
    const std::string path = top / "file";
    write_file(path, "content");
    CHECK(attempt(path, O_RDONLY, RESOLVE_CACHED) == 0);
    CHECK(attempt(path, O_WRONLY | O_TRUNC, RESOLVE_CACHED) == EAGAIN);
    CHECK(attempt(top / "new", O_WRONLY | O_CREAT, RESOLVE_CACHED, 0600) == EAGAIN);
    CHECK(read_file(path) == "content");
}

TEST_CASE("kernel: exclusive creation follows no link, dangling or not") {
    const TempDir top;
    std::filesystem::create_symlink(top / "target", top / "link");
    CHECK(attempt(top / "link", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0, 0600) == EEXIST);
    CHECK_FALSE(std::filesystem::exists(top / "target"));
}

TEST_CASE(
    "kernel: a rename that may not replace keeps what has the name; of two names of one file none goes") {
    const TempDir top(TempDir::Place::var_tmp);
    for (const char* name : {"one", "other"}) write_file(top / name, name);
    std::filesystem::create_hard_link(top / "one", top / "second");
    const auto rename = [&](const char* from, const char* to, unsigned flags) {
        return ::syscall(SYS_renameat2, AT_FDCWD, (top / from).c_str(), AT_FDCWD, (top / to).c_str(), flags);
    };
    CHECK(rename("one", "other", RENAME_NOREPLACE) < 0);
    CHECK(errno == EEXIST);
    CHECK(read_file(top / "other") == "other");
    CHECK(rename("one", "second", 0) == 0);
    CHECK(std::filesystem::exists(top / "one"));
    CHECK(std::filesystem::exists(top / "second"));
}

TEST_CASE("kernel: a link is read and given away by an O_PATH descriptor of it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    const std::string path = top / "link";
    std::filesystem::create_symlink("anywhere", path);
    const UniqueFd link(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    std::string target(16, '\0');
    CHECK(::readlinkat(link.number(), "", target.data(), target.size()) == 8);
    CHECK(::fchownat(link.number(), "", 30001, 30002, AT_EMPTY_PATH) == 0);
    struct stat status{};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 30001);
    CHECK(status.st_gid == 30002);
}

TEST_CASE("kernel: the holder of an appending descriptor can clear O_APPEND and truncate the file") {
    const TempDir top;
    const std::string path = top / "file";
    write_file(path, "content");
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    CHECK(::ftruncate(file.number(), 4) == 0);
    REQUIRE(::fcntl(file.number(), F_SETFL, 0) == 0);
    CHECK(::pwrite(file.number(), "C", 1, 0) == 1);
    CHECK(read_file(path) == "Cont");
}

TEST_CASE("kernel: a descriptor opened under Landlock without the right to truncate is truncated by nobody") {
    const auto version = opener::landlock_version();
    FDBROKER_SKIP_UNLESS(is_root() && version && *version >= 3, "needs root and Landlock of Linux 6.2");
    const TempDir top;
    const std::string path = top / "file";
    write_file(path, "content");
    run_in_child([&] {
        const UniqueFd before(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        const UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        const auto plan = plan_for({directory_for(top.path(), {policy::Operation::append})});
        REQUIRE(opener::restrict_by_landlock(plan, root.borrow(), *version).has_value());
        const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        REQUIRE(file);
        CHECK(::ftruncate(file.number(), 0) < 0);
        CHECK(errno == EACCES);
        CHECK(::ftruncate(before.number(), 3) == 0);
    });
}

}  // namespace fdbroker::test
