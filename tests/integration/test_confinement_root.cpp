// SPDX-License-Identifier: MIT
// The private root, alone and as part of the whole: what is there, what can be done to it, and what is not there.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "opener/confinement/paths.hpp"
#include "opener/confinement/private_root.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::BoundDirectory;
using opener::ConfinementPlan;
using policy::Operation;

// Into the private root and nothing more: root with every capability.
std::vector<BoundDirectory> enter(const ConfinementPlan& plan) {
    auto root = opener::enter_private_root(plan);
    if (!root) throw std::runtime_error(root.error().message());
    return std::move(*root);
}

const BoundDirectory& directory_of(const std::vector<BoundDirectory>& directories, const std::string& path) {
    for (const BoundDirectory& directory : directories) {
        if (directory.path == path) return directory;
    }
    throw std::runtime_error("not planned: " + path);
}

}  // namespace

TEST_CASE("private root: files outside the rules' directories are not there, not even for root") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    const auto outcomes = [&] {
        return std::vector{attempt_open(::open((tree.outside + "/secret").c_str(), O_RDONLY)),
                           attempt_open(::open("/etc/shadow", O_RDONLY)),
                           attempt_open(::open("/proc/self/status", O_RDONLY)),
                           attempt_open(::open("/dev/null", O_RDWR)),
                           attempt_open(::open((tree.allowed + "/../outside/secret").c_str(), O_RDONLY))};
    };
    const DescriptorTable before = DescriptorTable::now();
    run_in_child([&] { CHECK(outcomes() == std::vector{0, 0, 0, 0, 0}); });
    run_in_child([&] {
        const auto root = enter(tree.plan());
        CHECK(outcomes() == std::vector{ENOENT, ENOENT, ENOENT, ENOENT, ENOENT});
        CHECK(attempt_open(::open((tree.allowed + "/secret").c_str(), O_RDONLY)) == 0);
        // On the way to the allowed ones there is nothing else.
        CHECK(std::distance(std::filesystem::directory_iterator(tree.top.path()), {}) == 2);
        CHECK(std::distance(std::filesystem::directory_iterator("/"), {}) == 1);
    });
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("private root: the directories' descriptors lead into it and not out of it") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        const proto::UniqueFd before(::open(tree.allowed.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        CHECK(attempt_open(openat2_of(before.number(), "../outside/secret")) == 0);
        const auto root = enter(tree.plan());
        const BoundDirectory& allowed = directory_of(root, tree.allowed);
        CHECK(allowed.errno_value == 0);
        CHECK((::fcntl(allowed.fd.number(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK((::fcntl(allowed.fd.number(), F_GETFL) & O_PATH) != 0);
        CHECK(attempt_open(openat2_of(allowed.fd.number(), "secret")) == 0);
        CHECK(attempt_open(openat2_of(allowed.fd.number(), "../outside/secret")) == ENOENT);
        CHECK(attempt_open(openat2_of(allowed.fd.number(), "../../../../../../etc/shadow")) == ENOENT);
    });
}

TEST_CASE("private root: the directories above the rules' are the broker's, and nobody else may enter them") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    ConfinementPlan plan = plan_for({{tree.allowed, {Operation::read}}});
    plan.account = {.uid = some_user, .gid = some_user, .name = {}, .changes = true};
    run_in_child([&] {
        const auto directories = enter(plan);
        for (std::string_view above = opener::parent_of(tree.allowed);; above = opener::parent_of(above)) {
            struct stat status{};
            REQUIRE(::stat(std::string(above).c_str(), &status) == 0);
            CHECK(status.st_mode == (S_IFDIR | 0700));
            CHECK(status.st_uid == some_user);
            CHECK(status.st_gid == some_user);
            if (above == "/") break;
        }
        // `..` leads up from a descriptor, and there it ends.
        REQUIRE(::setresgid(other_user, other_user, other_user) == 0);
        REQUIRE(::setresuid(other_user, other_user, other_user) == 0);
        const int held = directory_of(directories, tree.allowed).fd.number();
        CHECK(attempt_open(::openat(held, "../..", O_PATH | O_CLOEXEC)) == EACCES);
    });
}

TEST_CASE("private root: a directory that rules change has a second mount, which permits no change") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    write_file(tree.allowed + "/file", "content");
    for (const auto& operations :
         {policy::OperationSet{Operation::read}, policy::OperationSet{Operation::read, Operation::write}}) {
        run_in_child([&] {
            const auto directories = enter(plan_for({{tree.allowed, operations}}));
            const BoundDirectory& allowed = directory_of(directories, tree.allowed);
            const bool writes = operations.contains(Operation::write);
            CHECK(allowed.writable == writes);
            REQUIRE(static_cast<bool>(allowed.read_only) == writes);
            if (!writes) return;
            const int fd = allowed.read_only.number();
            CHECK(attempt_open(::openat(fd, "file", O_RDONLY | O_CLOEXEC)) == 0);
            CHECK(attempt_open(::openat(fd, "file", O_RDWR | O_CLOEXEC)) == EROFS);
            CHECK(attempt_open(::openat(allowed.fd.number(), "file", O_RDWR | O_CLOEXEC)) == 0);
        });
    }
}

TEST_CASE("private root: the report of a directory is true") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    struct stat outside{};
    REQUIRE(::stat(tree.allowed.c_str(), &outside) == 0);
    run_in_child([&] {
        const auto root = enter(tree.plan());
        const BoundDirectory& allowed = directory_of(root, tree.allowed);
        const BoundDirectory& spool = directory_of(root, tree.spool);
        CHECK(allowed.device == outside.st_dev);
        CHECK(allowed.inode == outside.st_ino);
        CHECK(allowed.mount_id != 0);
        CHECK(allowed.mount_id != spool.mount_id);
        CHECK(allowed.local);
    });
}

TEST_CASE("private root: procfs does not count as local") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    run_in_child([] {
        const auto root = enter(plan_for({directory_for("/proc", {Operation::read})}));
        CHECK(root.at(0).errno_value == 0);
        CHECK_FALSE(root.at(0).local);
    });
}

TEST_CASE(
    "private root: only directories that rules write can be written, only they execute that a rule lets") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    // As many attempts as there are ways to change a file, by its path and by its descriptor.
    const auto changes = [](const std::string& directory) {
        const std::string secret = directory + "/secret";
        const proto::UniqueFd fd(::open(secret.c_str(), O_RDONLY | O_CLOEXEC));
        return std::vector{attempt(::chmod(secret.c_str(), 0600)),
                           attempt(::chown(secret.c_str(), 0, 0)),
                           attempt(::fchmod(fd.number(), 0600)),
                           attempt(::fchown(fd.number(), 0, 0)),
                           attempt_open(::open(secret.c_str(), O_WRONLY)),
                           attempt_open(::open((directory + "/new").c_str(), O_WRONLY | O_CREAT, 0600)),
                           attempt(::truncate(secret.c_str(), 6)),
                           attempt(::utimensat(AT_FDCWD, secret.c_str(), nullptr, 0)),
                           attempt(::mkdir((directory + "/d").c_str(), 0700))};
    };
    const std::vector<int> all_done(9, 0);
    const std::vector<int> refused(9, EROFS);
    run_in_child([&] {
        CHECK(changes(tree.allowed) == all_done);
        CHECK(changes(tree.spool) == all_done);
    });
    for (const std::string& directory : {tree.allowed, tree.spool}) {
        REQUIRE(::unlink((directory + "/new").c_str()) == 0);
        REQUIRE(::rmdir((directory + "/d").c_str()) == 0);
    }
    run_in_child([&] {
        const auto root = enter(tree.plan());
        CHECK(changes(tree.spool) == all_done);
        CHECK(changes(tree.allowed) == refused);
        CHECK(attempt_open(::open("/new", O_WRONLY | O_CREAT, 0600)) == EROFS);
        CHECK(attempt_open(::open((tree.top / "new").c_str(), O_WRONLY | O_CREAT, 0600)) == EROFS);
    });
}

TEST_CASE("private root: nothing is executed, no device opened and no set-id bit honoured there") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    const std::string device = tree.allowed + "/null";
    REQUIRE(::mknod(device.c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
    const auto execute = [&] {
        char* const arguments[] = {nullptr};
        return attempt(::syscall(SYS_execve, (tree.allowed + "/program").c_str(), arguments, arguments));
    };
    run_in_child([&] { CHECK(attempt_open(::open(device.c_str(), O_RDWR)) == 0); });
    run_in_child([&] {
        const auto root = enter(tree.plan());
        CHECK(attempt_open(::open(device.c_str(), O_RDWR)) == EACCES);
        CHECK(execute() == EACCES);
        struct statvfs filesystem{};
        REQUIRE(::fstatvfs(directory_of(root, tree.spool).fd.number(), &filesystem) == 0);
        CHECK((filesystem.f_flag & ST_NOSUID) != 0);
    });
    run_in_child([&] {
        policy::Directory allowed = directory_for(tree.allowed, {Operation::read, Operation::execute});
        allowed.devices = true;
        const auto root = enter(plan_for({allowed}));
        CHECK(attempt_open(::open(device.c_str(), O_RDWR)) == 0);
        // The interpreter is not there; that is how far an executable mount gets.
        CHECK(execute() == ENOENT);
    });
}

TEST_CASE(
    "private root: a directory that is not there is dormant, with the reason, and nothing stands in for it") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    for (const char* link : {"link", "link2"}) REQUIRE(::symlink("allowed", (tree.top / link).c_str()) == 0);
    const std::string names[] = {tree.outside + "/missing", tree.outside + "/secret",
                                 tree.outside + "/program/below", tree.top / "link",
                                 tree.top / "link2/below"};
    const int expected[] = {ENOENT, ENOTDIR, ENOTDIR, ELOOP, ELOOP};
    std::vector<policy::Directory> directories{directory_for(tree.allowed, {Operation::read})};
    for (const std::string& name : names) directories.push_back(directory_for(name, {Operation::read}));
    run_in_child([&] {
        const auto root = enter(plan_for(directories));
        for (std::size_t index = 0; index < std::size(names); ++index) {
            CAPTURE(names[index]);
            const BoundDirectory& directory = directory_of(root, names[index]);
            CHECK_FALSE(bool(directory.fd));
            CHECK(directory.errno_value == expected[index]);
            CHECK(directory.why.empty() == (expected[index] != ELOOP));
            CHECK(attempt(::access(names[index].c_str(), F_OK)) == ENOENT);
        }
        const std::string link2 = tree.top / "link2";
        CHECK(directory_of(root, link2 + "/below").why ==
              link2 + " is a symbolic link to " + tree.allowed + ": name " + tree.allowed +
                  "/below/**; for rules that follow links, " + link2 + " too");
        CHECK(attempt(::access(tree.outside.c_str(), F_OK)) == ENOENT);
        CHECK(attempt_open(::open((tree.allowed + "/secret").c_str(), O_RDONLY)) == 0);
    });
}

TEST_CASE("private root: a directory inside another has its own attributes, and neither spoils the other") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    make_directory(tree.allowed + "/inner");
    make_directory(tree.allowed + "/inner/innermost");
    run_in_child([&] {
        const auto root = enter(plan_for({directory_for(tree.allowed, {Operation::read}),
                                          directory_for(tree.allowed + "/gone", {Operation::write}),
                                          directory_for(tree.allowed + "/inner", {Operation::write})}));
        const int inner = directory_of(root, tree.allowed + "/inner").fd.number();
        CHECK(directory_of(root, tree.allowed + "/gone").errno_value == ENOENT);
        CHECK(attempt_open(openat2_of(inner, "new", O_WRONLY | O_CREAT)) == 0);
        CHECK(attempt_open(openat2_of(inner, "innermost/new", O_WRONLY | O_CREAT)) == 0);
        CHECK(attempt_open(openat2_of(inner, "../new", O_WRONLY | O_CREAT)) == EROFS);
        CHECK(attempt_open(::open((tree.allowed + "/new").c_str(), O_WRONLY | O_CREAT, 0600)) == EROFS);
        CHECK(attempt_open(::open((tree.allowed + "/inner/new").c_str(), O_WRONLY)) == 0);
    });
    CHECK(std::filesystem::exists(tree.allowed + "/inner/innermost/new"));
}

TEST_CASE("private root: mounts below a directory are there, under the same restrictions") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    make_directory(tree.allowed + "/sub");
    run_in_mount_namespace([&] {
        REQUIRE(::mount("tmpfs", (tree.allowed + "/sub").c_str(), "tmpfs", 0, nullptr) == 0);
        const std::string file = tree.allowed + "/sub/file";
        write_file(file, "");
        CHECK(attempt_open(::open(file.c_str(), O_WRONLY)) == 0);
        const auto root = enter(tree.plan());
        CHECK(attempt_open(::open(file.c_str(), O_RDONLY)) == 0);
        CHECK(attempt_open(::open(file.c_str(), O_WRONLY)) == EROFS);
    });
}

TEST_CASE("private root: a filesystem that is read-only outside stays so where a rule writes") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_mount_namespace([&] {
        const char* const spool = tree.spool.c_str();
        REQUIRE(::mount(spool, spool, nullptr, MS_BIND, nullptr) == 0);
        REQUIRE(::mount(nullptr, spool, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0);
        const auto root = enter(tree.plan());
        CHECK(attempt_open(::open((tree.spool + "/secret").c_str(), O_WRONLY)) == EROFS);
    });
}

TEST_CASE("private root: later mounts outside do not come in") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    make_directory(tree.allowed + "/later");
    run_in_mount_namespace([&] {
        const char* const allowed = tree.allowed.c_str();
        REQUIRE(::mount(allowed, allowed, nullptr, MS_BIND, nullptr) == 0);
        REQUIRE(::mount(nullptr, allowed, nullptr, MS_SHARED, nullptr) == 0);
        const std::string file = tree.allowed + "/later/file";
        run_beside([&] { (void)enter(tree.plan()); },
                   [&](pid_t child) {
                       REQUIRE(::mount("tmpfs", (tree.allowed + "/later").c_str(), "tmpfs", 0, nullptr) == 0);
                       write_file(file, "");
                       const std::string inside = "/proc/" + std::to_string(child) + "/root" + file;
                       CHECK(attempt(::access(inside.c_str(), F_OK)) == ENOENT);
                       CHECK(attempt(::access(file.c_str(), F_OK)) == 0);
                   });
    });
}

TEST_CASE("private root: a rule's directory may be / itself, with others in it") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        const auto root = enter(
            plan_for({directory_for("/", {Operation::read}), directory_for(tree.spool, {Operation::write})}));
        const int whole = directory_of(root, "/").fd.number();
        CHECK(attempt_open(openat2_of(whole, tree.outside.substr(1) + "/secret")) == 0);
        CHECK(attempt_open(openat2_of(whole, tree.outside.substr(1) + "/secret", O_WRONLY)) == EROFS);
        CHECK(attempt_open(::open("/new", O_WRONLY | O_CREAT, 0600)) == EROFS);
        CHECK(attempt_open(::open("/dev/null", O_RDWR)) == EACCES);
        CHECK(attempt_open(::open((tree.spool + "/secret").c_str(), O_WRONLY)) == 0);
    });
}

TEST_CASE("private root: works from within a chroot, and leads nowhere out of it") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        REQUIRE(::chroot(tree.top.path().c_str()) == 0);
        REQUIRE(::chdir("/") == 0);
        const auto root = enter(plan_for({directory_for("/allowed", {Operation::read})}));
        const int allowed = directory_of(root, "/allowed").fd.number();
        CHECK(attempt_open(openat2_of(allowed, "secret")) == 0);
        CHECK(attempt_open(openat2_of(allowed, "../outside/secret")) == ENOENT);
        CHECK(attempt_open(::open("/etc/shadow", O_RDONLY)) == ENOENT);
        CHECK(attempt_open(::open("/outside/secret", O_RDONLY)) == ENOENT);
        CHECK(std::distance(std::filesystem::directory_iterator("/"), {}) == 1);
    });
}

TEST_CASE("private root: someone who is not root gets one by way of a user namespace") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Tree tree;
    write_file(tree.allowed + "/public", "");
    run_as(some_user, [&] {
        const auto root = opener::enter_private_root(tree.plan());
        CAPTURE(root ? "" : root.error().message());
        if (!root && (root.error().errno_value == EPERM || root.error().errno_value == ENOSPC)) {
            MESSAGE("no user namespaces for users here");
            return;
        }
        REQUIRE(root.has_value());
        const int allowed = directory_of(*root, tree.allowed).fd.number();
        CHECK(attempt_open(openat2_of(allowed, "public")) == 0);
        CHECK(attempt_open(openat2_of(allowed, "secret")) == EACCES);
        CHECK(attempt_open(::open("/etc/hostname", O_RDONLY)) == ENOENT);
        CHECK(::geteuid() == some_user);
    });
}

}  // namespace fdbroker::test
