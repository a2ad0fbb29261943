// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/request/call_table.hpp"
#include "opener/resolve/directory_table.hpp"
#include "opener/resolve/open_flags.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "proto/payload.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using policy::Operation;
using policy::OperationSet;

namespace {

DirectoryTable table_of(const std::vector<std::string>& paths) {
    std::vector<BoundDirectory> directories;
    for (const auto& path : paths) {
        BoundDirectory directory;
        directory.path = path;
        directories.push_back(std::move(directory));
    }
    return DirectoryTable(std::move(directories));
}

std::string found(const DirectoryTable& table, const std::string& path) {
    const auto result = table.find(path);
    return result.directory == nullptr ? "none" : result.directory->path + " + " + result.relative;
}

}  // namespace

TEST_CASE("directory table: the deepest directory on the way is found") {
    const auto table = table_of({"/srv/www", "/srv/www/private", "/etc"});
    CHECK(found(table, "/srv/www/a/b.html") == "/srv/www + a/b.html");
    CHECK(found(table, "/srv/www/private/key") == "/srv/www/private + key");
    CHECK(found(table, "/srv/www/private") == "/srv/www/private + .");
    CHECK(found(table, "/srv/www") == "/srv/www + .");
    CHECK(found(table, "/srv") == "none");
    CHECK(found(table, "/") == "none");
}

TEST_CASE("directory table: below a directory that is bound for others, the one that rules name is found") {
    BoundDirectory wide;
    wide.path = "/t";
    wide.stands_for = std::make_shared<const std::vector<std::string>>(
        std::vector<std::string>{"/t/1", "/t/1/in", "/t/2/deep"});
    std::vector<BoundDirectory> directories;
    directories.push_back(std::move(wide));
    const DirectoryTable table(std::move(directories));
    const auto inner = [&](const std::string& path) {
        const auto result = table.find(path);
        return result.inner.empty() ? "none" : std::string(result.inner) + " + " + result.relative_to_inner;
    };
    CHECK(inner("/t/1/a/b") == "1 + a/b");
    CHECK(inner("/t/1/in/b") == "1/in + b");
    CHECK(inner("/t/1") == "1 + .");
    CHECK(inner("/t/2/deep/b") == "2/deep + b");
    CHECK(inner("/t/2/b") == "none");
    CHECK(inner("/t/12/b") == "none");
    CHECK(inner("/t") == "none");
}

TEST_CASE(
    "directory table: a directory kept from being bound by a link counts only where there is no other") {
    std::vector<BoundDirectory> directories(3);
    directories[0].path = "/srv";
    directories[1].path = "/srv/current";
    directories[1].errno_value = ELOOP;
    directories[2].path = "/var/run/x";
    directories[2].errno_value = ELOOP;
    const DirectoryTable table(std::move(directories));
    CHECK(found(table, "/srv/current/a") == "/srv + current/a");
    CHECK(found(table, "/var/run/x/a") == "/var/run/x + a");
}

TEST_CASE("directory table: a name that only begins like a directory is not below it") {
    const auto table = table_of({"/mbogo"});
    CHECK(found(table, "/mbog") == "none");
    CHECK(found(table, "/mbogos") == "none");
    CHECK(found(table, "/mbogo/s") == "/mbogo + s");
}

TEST_CASE("directory table: the root holds everything that nothing deeper holds") {
    const auto table = table_of({"/", "/usr/lib"});
    CHECK(found(table, "/") == "/ + .");
    CHECK(found(table, "/etc/passwd") == "/ + etc/passwd");
    CHECK(found(table, "/usr/lib/os-release") == "/usr/lib + os-release");
}

TEST_CASE("directory table: thousands of directories are told apart") {
    std::vector<std::string> paths;
    for (int i = 0; i < 4096; ++i) paths.push_back("/data/" + std::to_string(i));
    const auto table = table_of(paths);
    for (const auto& path : paths) CHECK(found(table, path + "/x") == path + " + x");
    CHECK(found(table, "/data/4096/x") == "none");
    CHECK(found(table_of({}), "/x") == "none");
}

TEST_CASE("open flags: every bit is either accepted or refused, alone and with each access mode") {
    constexpr std::uint32_t largefile = 0100000;
    const std::uint32_t accepted[] = {O_APPEND,   O_CREAT,  O_EXCL,    O_TRUNC,   O_DIRECTORY,
                                      O_NOFOLLOW, O_DSYNC,  O_SYNC,    O_NOATIME, O_DIRECT,
                                      O_NONBLOCK, O_NOCTTY, O_CLOEXEC, largefile};
    std::uint32_t all = 0;
    for (const std::uint32_t flag : accepted) all |= flag;
    for (unsigned bit = 2; bit < 32; ++bit) {
        const std::uint32_t flag = std::uint32_t{1} << bit;
        for (const std::uint32_t access : {0U, 1U, 2U}) {
            CAPTURE(flag);
            CAPTURE(access);
            const bool truncates_readonly = flag == O_TRUNC && access == O_RDONLY;
            CHECK(OpenFlags::parse(flag | access).has_value() == ((all & flag) != 0 && !truncates_readonly));
        }
        CHECK(OpenFlags::parse(flag | O_ACCMODE).error() == OpenFlagsError::access_mode);
    }
    CHECK(!OpenFlags::parse(O_PATH));
    CHECK(!OpenFlags::parse(O_TMPFILE | O_RDWR));
    CHECK(!OpenFlags::parse(O_ASYNC));
}

TEST_CASE("open flags: each combination needs the operations that it uses") {
    const auto needs = [](std::uint32_t flags) { return OpenFlags::parse(flags).value().operations(); };
    CHECK(needs(O_RDONLY) == OperationSet{Operation::read});
    CHECK(needs(O_WRONLY) == OperationSet{Operation::write});
    CHECK(needs(O_RDWR) == OperationSet{Operation::read, Operation::write});
    CHECK(needs(O_WRONLY | O_APPEND) == OperationSet{Operation::append});
    CHECK(needs(O_RDWR | O_APPEND) == OperationSet{Operation::read, Operation::append});
    CHECK(needs(O_RDWR | O_CREAT | O_EXCL) ==
          OperationSet{Operation::read, Operation::write, Operation::create});
    CHECK(needs(O_RDONLY | O_CREAT) == OperationSet{Operation::read, Operation::create});
    CHECK(needs(O_WRONLY | O_TRUNC) == OperationSet{Operation::write, Operation::truncate});
    CHECK(needs(O_RDONLY | O_DIRECTORY) == OperationSet{Operation::list});
}

TEST_CASE("open flags: whatever the flags, what is opened needs the operation that allows it") {
    constexpr std::uint32_t combined[] = {O_APPEND,    O_CREAT,    O_EXCL,    O_TRUNC,
                                          O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};
    for (unsigned chosen = 0; chosen < 1U << std::size(combined); ++chosen) {
        for (const std::uint32_t access : {0U + O_RDONLY, 0U + O_WRONLY, 0U + O_RDWR}) {
            std::uint32_t flags = access;
            for (unsigned bit = 0; bit < std::size(combined); ++bit)
                if ((chosen >> bit & 1U) != 0) flags |= combined[bit];
            CAPTURE(flags);
            const auto parsed = OpenFlags::parse(flags);
            const bool nonsense = (access == O_RDONLY && (flags & O_TRUNC) != 0) ||
                                  ((flags & O_CREAT) != 0 && (flags & O_DIRECTORY) != 0);
            REQUIRE(parsed.has_value() == !nonsense);
            if (!parsed) continue;
            const auto needs = [&](Operation operation) { return parsed->operations().contains(operation); };
            if (access != O_WRONLY)
                CHECK(needs((flags & O_DIRECTORY) != 0 ? Operation::list : Operation::read));
            if (access != O_RDONLY)
                CHECK(needs((flags & O_APPEND) != 0 ? Operation::append : Operation::write));
            CHECK(needs(Operation::create) == ((flags & O_CREAT) != 0));
            CHECK(needs(Operation::truncate) == ((flags & O_TRUNC) != 0));
            CHECK(parsed->writes() == (access != O_RDONLY));
            // Nothing comes to be, and nothing is truncated, by looking what is there.
            CHECK((parsed->for_openat2() & (O_CREAT | O_EXCL | O_TRUNC)) == 0);
            CHECK((parsed->for_new_file() & O_NONBLOCK) == (flags & O_NONBLOCK));
        }
    }
}

TEST_CASE("open flags: opening never blocks, follows a last link, takes a terminal or survives exec") {
    for (const std::uint32_t flags : {0U, std::uint32_t{O_NONBLOCK}}) {
        const auto parsed = OpenFlags::parse(flags);
        REQUIRE(parsed);
        constexpr std::uint64_t always = O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
        CHECK((parsed->for_openat2() & always) == always);
        CHECK(parsed->wants_nonblock() == ((flags & O_NONBLOCK) != 0));
    }
}

TEST_CASE(
    "call table: a last link is kept, a mode taken and a batch allowed for the calls that PROTOCOL.md "
    "names") {
    using proto::Call;
    std::set<Call> keeping, with_mode, in_batches;
    for (const CallRow& row : call_table) {
        if (last_link_of({.call = row.call}) == LastLink::keep) keeping.insert(row.call);
        if (row.mode == Mode::taken) with_mode.insert(row.call);
        if (row.in_batch == InBatch::allowed) in_batches.insert(row.call);
    }
    CHECK(keeping == std::set{Call::readlink, Call::mkdir, Call::remove, Call::rename, Call::symlink});
    CHECK(with_mode == std::set{Call::open, Call::mkdir, Call::setattr, Call::put});
    CHECK(in_batches == std::set{Call::open, Call::stat, Call::readlink});
    CHECK(last_link_of({.call = Call::open, .flags = O_NOFOLLOW}) == LastLink::keep);
    CHECK(last_link_of({.call = Call::stat, .flags = AT_SYMLINK_NOFOLLOW}) == LastLink::keep);
    CHECK(last_link_of({.call = Call::setattr, .flags = proto::setattr_link}) == LastLink::keep);
}

TEST_CASE("connection table: connections are counted per uid, and an unknown id is nobody's") {
    const auto before = test::DescriptorTable::now();
    {
        ConnectionTable table;
        const auto open_null = [] { return proto::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); };
        const ConnectionId first = table.add({.socket = open_null(), .uid = 33});
        const ConnectionId second = table.add({.socket = open_null(), .uid = 33});
        CHECK(first != second);
        CHECK(table.of_uid(33) == 2);
        CHECK(table.of_uid(34) == 0);
        table.release(first);
        table.release(first);
        table.release(4711);
        CHECK(table.of_uid(33) == 1);
        CHECK(table.all().size() == 1);
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}
