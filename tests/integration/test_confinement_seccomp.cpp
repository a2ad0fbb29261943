// SPDX-License-Identifier: MIT
// The filter alone, on a process that is root with every capability: whatever fails here, fails because of it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <vector>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/integration/seccomp_calls.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::ModifyingCalls;

constexpr const char* needs_root = "needs root, so that nothing but the filter refuses";

void filter(const ModifyingCalls& calls = {}, opener::FilterFor whom = opener::FilterFor::broker) {
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    const auto installed = opener::install_seccomp_filter(whom, calls);
    if (!installed) throw std::runtime_error(installed.error().message());
}

}  // namespace

TEST_CASE("seccomp filter: calls that a broker has no use for are EPERM, by the filter alone") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    for (const Call& call : forbidden_calls()) {
        CAPTURE(call.name);
        const Things things;
        run_in_child([&] {
            CAPTURE(call.name);
            CHECK(attempt(call.make(things)) != EPERM);
        });
        run_in_child([&] {
            CAPTURE(call.name);
            filter();
            CHECK(attempt(call.make(things)) == EPERM);
        });
    }
}

TEST_CASE("seccomp filter: calls that a broker needs go on working") {
    const Things things;
    run_in_child([&] {
        filter();
        for (const Call& call : needed_calls()) {
            CAPTURE(call.name);
            errno = 0;
            const long result = call.make(things);
            CAPTURE(errno);
            CHECK(result >= 0);
        }
    });
}

TEST_CASE("seccomp filter: abort() ends the process as it should") {
    CHECK_THROWS_WITH(run_in_child([] {
                          ::signal(SIGABRT, SIG_DFL);  // doctest catches it
                          filter();
                          ::abort();
                      }),
                      "the child was ended by signal 6");
}

TEST_CASE("seccomp filter: each group of modifying calls opens its own calls and no others") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    struct Group {
        bool ModifyingCalls::* member;
        std::vector<std::string> calls;
    };
    const Group groups[] = {
        {&ModifyingCalls::truncate, {"ftruncate"}},
        {&ModifyingCalls::create, {}},
        {&ModifyingCalls::give_away, {"fchown"}},
        {&ModifyingCalls::set_attributes, {"fchmod", "futimens"}},
        {&ModifyingCalls::make_directories, {"mkdirat"}},
        {&ModifyingCalls::list, {"getdents64"}},
        {&ModifyingCalls::snapshot, {"memfd_create", "fcntl lease"}},
        {&ModifyingCalls::stream, {"pipe2"}},
        {&ModifyingCalls::remove, {"unlinkat"}},
        {&ModifyingCalls::rename, {"renameat2"}},
        {&ModifyingCalls::symlink, {"symlinkat"}},
        {&ModifyingCalls::extended_attributes, {"fsetxattr"}},
        {&ModifyingCalls::put, {"fsync", "copy_file_range", "fcntl lease"}},
        {&ModifyingCalls::watch,
         {"inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fchdir", "pipe2", "fcntl pipe size"}},
    };
    for (const Group& group : groups) {
        const Things things;
        run_in_child([&] {
            ModifyingCalls calls;
            calls.*group.member = true;
            filter(calls, opener::FilterFor::helper);
            for (const Call& call : forbidden_calls()) {
                CAPTURE(call.name);
                const bool opened = std::ranges::find(group.calls, call.name) != group.calls.end();
                CHECK((attempt(call.make(things)) != EPERM) == opened);
            }
        });
    }
}

TEST_CASE("seccomp filter: the broker's own has none of them, whatever the rules need") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    const Things things;
    run_in_child([&] {
        filter({.truncate = true,
                .create = true,
                .give_away = true,
                .set_attributes = true,
                .make_directories = true,
                .list = true,
                .snapshot = true,
                .stream = true,
                .remove = true,
                .rename = true,
                .symlink = true,
                .extended_attributes = true,
                .put = true,
                .watch = true});
        for (const Call& call : forbidden_calls()) {
            CAPTURE(call.name);
            CHECK(attempt(call.make(things)) == EPERM);
        }
        CHECK(attempt(raw(SYS_linkat, things.file.number(), opener::kernel::no_path,
                          things.directory.number(), "named", AT_EMPTY_PATH)) == EPERM);
    });
}

TEST_CASE(
    "seccomp filter: a new file gets its name by its descriptor, never an old one another by its path") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    const Things things;
    run_in_child([&] {
        const proto::UniqueFd unnamed(
            ::open(things.top.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        filter({.create = true}, opener::FilterFor::helper);
        const int directory = things.directory.number();
        const auto link = [&](int from, const char* old_name, const char* new_name, int flags) {
            return attempt(raw(SYS_linkat, from, old_name, directory, new_name, flags));
        };
        CHECK(link(directory, "file", "second", 0) == EPERM);
        CHECK(link(directory, "file", "second", AT_EMPTY_PATH) == EPERM);
        CHECK(link(unnamed.number(), opener::kernel::no_path, "named", AT_EMPTY_PATH) == 0);
    });
}

TEST_CASE("seccomp filter: a link is given away by its descriptor, never by its path") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    const Things things;
    REQUIRE(::symlink("x", things.other.c_str()) == 0);
    const auto give = [&](int directory, const char* path, int flags) {
        return attempt(raw(SYS_fchownat, directory, path, 30001, 30001, flags));
    };
    run_in_child([&] {
        const proto::UniqueFd link(::open(things.other.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        filter({.give_away = true, .symlink = true}, opener::FilterFor::helper);
        for (const int flags : {0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW})
            CHECK(give(things.directory.number(), "other", flags) == EPERM);
        CHECK(give(link.number(), opener::kernel::no_path, AT_EMPTY_PATH) == 0);
    });
    run_in_child([&] {
        const proto::UniqueFd link(::open(things.other.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        filter({.symlink = true}, opener::FilterFor::helper);
        CHECK(give(link.number(), opener::kernel::no_path, AT_EMPTY_PATH) == EPERM);
    });
}

TEST_CASE("seccomp filter: no set-id bit can be given to a file") {
    FDBROKER_SKIP_UNLESS(is_root(), needs_root);
    const Things things;
    run_in_child([&] {
        const int file = things.file.number();
        CHECK(attempt(::fchmod(file, 06755)) == 0);
        filter({.set_attributes = true}, opener::FilterFor::helper);
        CHECK(attempt(::fchmod(file, 04755)) == EPERM);
        CHECK(attempt(::fchmod(file, 02755)) == EPERM);
        CHECK(attempt(::fchmod(file, 0755)) == 0);
    });
}

#ifdef __x86_64__
TEST_CASE("seccomp filter: a call by the 32-bit entry or of x32 ends the process") {
    const auto getpid_32 = [] {
        long result = 20;  // getpid of i386, for which no argument is needed
        asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        return result;
    };
    run_in_child([&] { CHECK(getpid_32() != 0); });
    CHECK_THROWS_WITH(run_in_child([&] {
                          filter();
                          getpid_32();
                      }),
                      "the child was ended by signal 31");
    CHECK_THROWS_WITH(run_in_child([] {
                          filter();
                          raw(0x40000000 | SYS_getpid);
                      }),
                      "the child was ended by signal 31");
}
#endif

}  // namespace fdbroker::test
