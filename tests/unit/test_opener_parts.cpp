// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/resolve/directory_table.hpp"
#include "opener/resolve/open_flags.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "tests/support/child.hpp"
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

TEST_CASE("directory table: one that a link keeps from being bound counts only where there is no other") {
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

TEST_CASE("open flags: what is opened never blocks, follows a last link, takes a terminal or survives exec") {
    for (const std::uint32_t flags : {0U, std::uint32_t{O_NONBLOCK}}) {
        const auto parsed = OpenFlags::parse(flags);
        REQUIRE(parsed);
        constexpr std::uint64_t always = O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
        CHECK((parsed->for_openat2() & always) == always);
        CHECK(parsed->wants_nonblock() == ((flags & O_NONBLOCK) != 0));
    }
}

TEST_CASE("journal: what a process notes is there after its death") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    const pid_t child = ::fork();
    if (child == 0) {
        InflightEntry* entry = inflight->acquire(42);
        InflightLog::note(*entry, 7);
        InflightLog::note(*entry, 8);
        InflightEntry* done = inflight->acquire(43);
        InflightLog::note(*done, 9);
        InflightLog::release(*done);
        ::kill(::getpid(), SIGKILL);
    }
    ::waitpid(child, nullptr, 0);
    CHECK(inflight->entries()[0].token == 42);
    CHECK(inflight->entries()[0].count == 2);
    CHECK(inflight->entries()[0].ids[1] == 8);
    CHECK(inflight->entries()[1].token == 0);
    CHECK(inflight->entries()[1].count == 0);
}

TEST_CASE("journal: the buffer for the next message holds nothing of the last one") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    for (const std::size_t size :
         {std::size_t{100}, std::size_t{50}, std::size_t{0}, proto::max_message_size}) {
        const auto buffer = inflight->begin_intake(42);
        CHECK(std::ranges::all_of(buffer, [](std::byte byte) { return byte == std::byte{0}; }));
        CHECK(inflight->intake().token == 42);
        std::ranges::fill(buffer.first(size), std::byte{1});
        inflight->end_intake(size);
        CHECK(inflight->intake().token == 0);
    }
    // Received, but never told how much.
    std::ranges::fill(inflight->begin_intake(42), std::byte{1});
    const auto buffer = inflight->begin_intake(43);
    CHECK(std::ranges::all_of(buffer, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_CASE("journal: a cleared one has nothing") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightLog::note(*inflight->acquire(42), 7);
    inflight->clear();
    for (const InflightEntry& entry : inflight->entries()) CHECK((entry.token == 0 && entry.count == 0));
}

TEST_CASE("journal: there are as many entries as it says") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    for (std::size_t i = 0; i < InflightLog::entry_count; ++i) CHECK(inflight->acquire(i + 1) != nullptr);
    CHECK(inflight->acquire(1000) == nullptr);
    InflightLog::release(inflight->entries()[17]);
    CHECK(inflight->acquire(1000) == &inflight->entries()[17]);
}

TEST_CASE("predecessors: what one left is told once, whether it lives on or has died") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightEntry* const entry = inflight->acquire(42);
    InflightLog::note(*entry, 7);
    InflightLog::note(*entry, 8);
    InflightSlot& with_helper = inflight->note_apart(42, 9);
    InflightSlot& done = inflight->note_apart(43, 10);
    const std::array known{EarlierGeneration{.number = 3, .inflight = &*inflight}};
    OrphanedRequests predecessors(known);
    CHECK(!predecessors.work_for(42));  // of whom nobody has said that it lives

    OrphanedRequests::LostRequests lost;
    predecessors.take_lost(4, lost);
    CHECK(lost.empty());
    predecessors.take_left(3, lost);
    CHECK(lost.size() == 1);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{7, 8});
    CHECK(predecessors.work_for(42));
    CHECK(predecessors.work_for(43));
    CHECK(!predecessors.work_for(44));
    InflightLog::release(done);
    CHECK(!predecessors.work_for(43));

    lost.clear();
    predecessors.take_left(3, lost);
    CHECK(lost.empty());
    predecessors.take_lost(3, lost);
    CHECK(lost.size() == 1);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{9});
    CHECK(!predecessors.work_for(42));
    lost.clear();
    predecessors.take_lost(3, lost);
    CHECK(lost.empty());
    InflightLog::release(with_helper);
}

TEST_CASE("journal: what was gathered is cleared apart from what helpers have") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightLog::note(*inflight->acquire(42), 7);
    std::ranges::fill(inflight->begin_intake(42), std::byte{1});
    inflight->note_apart(42, 9);
    inflight->clear_gathered();
    CHECK(inflight->entries()[0].token == 0);
    CHECK(inflight->intake().token == 0);
    CHECK(inflight->slots()[0].token == 42);
    inflight->clear();
    CHECK(inflight->slots()[0].token == 0);
}

TEST_CASE("predecessors: what two of them name is answered once") {
    auto one = InflightLog::create(), two = InflightLog::create();
    REQUIRE(one);
    REQUIRE(two);
    InflightLog::note(*one->acquire(42), 7);
    InflightLog::note(*two->acquire(42), 7);
    two->note_apart(42, 8);
    const std::array known{EarlierGeneration{.number = 3, .inflight = &*one},
                           EarlierGeneration{.number = 4, .inflight = &*two}};
    OrphanedRequests predecessors(known);
    OrphanedRequests::LostRequests lost;
    predecessors.take_lost(3, lost);
    predecessors.take_lost(4, lost);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{7, 8});
}

TEST_CASE("link: what the other side said before it ended is heard, though it has left something unread") {
    auto pair = Link::make();
    REQUIRE(pair);
    REQUIRE(pair->supervisor.try_send({.type = LinkType::ping}));
    REQUIRE(pair->generation.try_send({.type = LinkType::release, .token = 1}));
    REQUIRE(pair->generation.try_send({.type = LinkType::release, .token = 2}));
    {
        const Link gone = std::move(pair->generation);
    }
    for (const ConnectionId token : {ConnectionId{1}, ConnectionId{2}}) {
        const auto received = pair->supervisor.receive();
        REQUIRE((received && *received));
        CHECK((*received)->message.token == token);
    }
    CHECK(pair->supervisor.receive().error().kind == proto::ErrorKind::disconnected);
}

TEST_CASE("link: a message arrives with its descriptor, and the end of the other side shows") {
    const auto before = test::DescriptorTable::now();
    {
        auto pair = Link::make();
        REQUIRE(pair);
        CHECK(!pair->generation.receive().value());
        const proto::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        REQUIRE(pair->supervisor.try_send({.type = LinkType::adopt, .value = 3, .token = 99}, null.borrow()));
        auto received = pair->generation.receive();
        REQUIRE((received && *received));
        CHECK((*received)->message.token == 99);
        CHECK((*received)->message.value == 3);
        CHECK((*received)->attached);
        {
            const Link gone = std::move(pair->supervisor);
        }
        CHECK(pair->generation.receive().error().kind == proto::ErrorKind::disconnected);
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("link: a generation cannot hand its supervisor a descriptor where the kernel has SO_PASSRIGHTS") {
    auto pair = Link::make();
    REQUIRE(pair);
    const int on = 1;
    FDBROKER_SKIP_UNLESS(
        ::setsockopt(pair->generation.descriptor().number(), SOL_SOCKET, 83, &on, sizeof on) == 0,
        "needs SO_PASSRIGHTS (Linux 6.16)");
    const auto sent = pair->generation.try_send({.type = LinkType::pong}, proto::BorrowedFd(STDIN_FILENO));
    REQUIRE(!sent);
    CHECK(sent.error().errno_value == EPERM);
    CHECK(pair->supervisor.try_send({.type = LinkType::ping}, proto::BorrowedFd(STDIN_FILENO)));
}

TEST_CASE("link: a full descriptor table loses the descriptor, not the message") {
    test::run_in_child([] {
        auto pair = Link::make();
        REQUIRE(pair);
        REQUIRE(
            pair->supervisor.try_send({.type = LinkType::adopt, .token = 99}, pair->supervisor.descriptor()));
        const rlimit none{.rlim_cur = 0, .rlim_max = 0};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        auto received = pair->generation.receive();
        REQUIRE((received && *received));
        CHECK((*received)->message.token == 99);
        CHECK(!(*received)->attached);
    });
}

TEST_CASE("link: a full queue is EAGAIN for who must not wait") {
    auto pair = Link::make();
    REQUIRE(pair);
    proto::Result<void> sent;
    while (sent) sent = pair->supervisor.try_send({.type = LinkType::ping});
    CHECK(sent.error().errno_value == EAGAIN);
    while (pair->generation.receive().value()) {
    }
    CHECK(pair->supervisor.try_send({.type = LinkType::ping}));
}

TEST_CASE("link: a message of another size is refused") {
    auto pair = Link::make();
    REQUIRE(pair);
    const std::string longer(sizeof(LinkMessage) + 8, 'x');
    for (const std::size_t size :
         {std::size_t{1}, sizeof(LinkMessage) - 1, sizeof(LinkMessage) + 1, longer.size()}) {
        REQUIRE(::send(pair->generation.descriptor().number(), longer.data(), size, 0) ==
                static_cast<ssize_t>(size));
        CHECK(pair->supervisor.receive().error().kind == proto::ErrorKind::protocol);
    }
}

TEST_CASE("connection table: connections are counted per uid, and an unknown token is nobody's") {
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

TEST_CASE("event loop: what is set is watched, whether it was there before or not") {
    auto loop = EventLoop::create();
    REQUIRE(loop);
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const proto::UniqueFd one(ends[0]), other(ends[1]);
    int tag = 0;
    for (const bool removed : {true, false, true}) {
        if (removed) loop->remove(one.borrow());
        REQUIRE(loop->set(one.borrow(), EPOLLOUT, &tag));
        REQUIRE(loop->wait(0).size() == 1);
        CHECK(loop->wait(0)[0].data.ptr == &tag);
    }
    const proto::UniqueFd file(::open("/", O_RDONLY | O_CLOEXEC));
    CHECK(loop->set(file.borrow(), EPOLLOUT, &tag).error().errno_value == EPERM);
}
