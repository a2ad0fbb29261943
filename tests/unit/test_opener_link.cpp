// SPDX-License-Identifier: MIT
// The link: in-flight logs, orphaned requests, the messages with their codec and tables, and the socket pair.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "opener/link/message_table.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

// Calls `check` with a message of each type of a direction; every byte of it has the same value.
template <typename Direction>
void with_each_message(unsigned char byte, auto check) {
    [&]<std::size_t... at>(std::index_sequence<at...>) {
        const auto with = [&]<std::size_t index>() {
            std::variant_alternative_t<index, Direction> message{};
            if constexpr (link_body_size<decltype(message)>() != 0)
                std::memset(static_cast<void*>(&message), byte, sizeof message);
            check(message);
        };
        (with.template operator()<at>(), ...);
    }(std::make_index_sequence<std::variant_size_v<Direction>>());
}

template <typename Direction>
void check_each_arrives_whole() {
    with_each_message<Direction>(0x5a, [](const auto& message) {
        using Message = std::remove_cvref_t<decltype(message)>;
        const auto encoded = encode<Direction>(message);
        const auto decoded = decode<Direction>(encoded.bytes());
        REQUIRE(decoded);
        REQUIRE(std::holds_alternative<Message>(*decoded));
        if constexpr (link_body_size<Message>() != 0)
            CHECK(std::memcmp(&std::get<Message>(*decoded), &message, sizeof message) == 0);
    });
}

// The owner of a table whose handlers note what they were called with.
enum class Phase : std::uint8_t { first, second };
struct Hearer {
    std::string heard{};
    bool attached = false;
    void add(const to_supervisor::Release& message) {
        heard += "release " + std::to_string(message.connection_id) + ";";
    }
    void take(const to_supervisor::Pong& message, proto::UniqueFd descriptor) {
        heard += "pong " + std::to_string(message.number) + ";";
        attached = bool(descriptor);
    }
    void renew() { heard += "renew;"; }
};
using Three = std::variant<to_supervisor::Release, to_supervisor::Pong, to_supervisor::Renew>;
constexpr MessageTable hearers_table{
    on<to_supervisor::Pong>({Phase::first, Phase::second}, &Hearer::take),
    on<to_supervisor::Release>({Phase::first}, &Hearer::add),
    on<to_supervisor::Renew>({Phase::second}, &Hearer::renew),
};

}  // namespace

TEST_CASE("in-flight log: the notes of a process outlive it") {
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
    CHECK(inflight->entries()[0].connection_id == 42);
    CHECK(inflight->entries()[0].count == 2);
    CHECK(inflight->entries()[0].ids[1] == 8);
    CHECK(inflight->entries()[1].connection_id == 0);
    CHECK(inflight->entries()[1].count == 0);
}

TEST_CASE("in-flight log: the buffer for the next message holds nothing of the last one") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    for (const std::size_t size :
         {std::size_t{100}, std::size_t{50}, std::size_t{0}, proto::max_message_size}) {
        const auto buffer = inflight->begin_intake(42);
        CHECK(std::ranges::all_of(buffer, [](std::byte byte) { return byte == std::byte{0}; }));
        CHECK(inflight->intake().connection_id == 42);
        std::ranges::fill(buffer.first(size), std::byte{1});
        inflight->end_intake(size);
        CHECK(inflight->intake().connection_id == 0);
    }
    // Received, but never told how much.
    std::ranges::fill(inflight->begin_intake(42), std::byte{1});
    const auto buffer = inflight->begin_intake(43);
    CHECK(std::ranges::all_of(buffer, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_CASE("in-flight log: a cleared one has nothing") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightLog::note(*inflight->acquire(42), 7);
    inflight->clear();
    for (const InflightEntry& entry : inflight->entries())
        CHECK((entry.connection_id == 0 && entry.count == 0));
}

TEST_CASE("in-flight log: there are as many entries as it says") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    for (std::size_t i = 0; i < InflightLog::entry_count; ++i) CHECK(inflight->acquire(i + 1) != nullptr);
    CHECK(inflight->acquire(1000) == nullptr);
    InflightLog::release(inflight->entries()[17]);
    CHECK(inflight->acquire(1000) == &inflight->entries()[17]);
}

TEST_CASE("orphaned requests: a request left behind is answered once, whether its generation lives or not") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightEntry* const entry = inflight->acquire(42);
    InflightLog::note(*entry, 7);
    InflightLog::note(*entry, 8);
    InflightSlot& with_helper = inflight->note_apart(42, 9);
    InflightSlot& done = inflight->note_apart(43, 10);
    const std::array known{EarlierGeneration{.number = 3, .inflight = &*inflight}};
    OrphanedRequests orphaned_requests(known);
    CHECK(!orphaned_requests.work_for(42));  // nobody has reported that generation alive

    OrphanedRequests::LostRequests lost;
    orphaned_requests.take_lost(4, lost);
    CHECK(lost.empty());
    orphaned_requests.take_left(3, lost);
    CHECK(lost.size() == 1);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{7, 8});
    CHECK(orphaned_requests.work_for(42));
    CHECK(orphaned_requests.work_for(43));
    CHECK(!orphaned_requests.work_for(44));
    InflightLog::release(done);
    CHECK(!orphaned_requests.work_for(43));

    lost.clear();
    orphaned_requests.take_left(3, lost);
    CHECK(lost.empty());
    orphaned_requests.take_lost(3, lost);
    CHECK(lost.size() == 1);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{9});
    CHECK(!orphaned_requests.work_for(42));
    lost.clear();
    orphaned_requests.take_lost(3, lost);
    CHECK(lost.empty());
    InflightLog::release(with_helper);
}

TEST_CASE("in-flight log: gathered requests are cleared apart from those that helpers have") {
    auto inflight = InflightLog::create();
    REQUIRE(inflight);
    InflightLog::note(*inflight->acquire(42), 7);
    std::ranges::fill(inflight->begin_intake(42), std::byte{1});
    inflight->note_apart(42, 9);
    inflight->clear_gathered();
    CHECK(inflight->entries()[0].connection_id == 0);
    CHECK(inflight->intake().connection_id == 0);
    CHECK(inflight->slots()[0].connection_id == 42);
    inflight->clear();
    CHECK(inflight->slots()[0].connection_id == 0);
}

TEST_CASE("orphaned requests: a request that two generations name is answered once") {
    auto one = InflightLog::create(), two = InflightLog::create();
    REQUIRE(one);
    REQUIRE(two);
    InflightLog::note(*one->acquire(42), 7);
    InflightLog::note(*two->acquire(42), 7);
    two->note_apart(42, 8);
    const std::array known{EarlierGeneration{.number = 3, .inflight = &*one},
                           EarlierGeneration{.number = 4, .inflight = &*two}};
    OrphanedRequests orphaned_requests(known);
    OrphanedRequests::LostRequests lost;
    orphaned_requests.take_lost(3, lost);
    orphaned_requests.take_lost(4, lost);
    CHECK(lost[42].ids == std::vector<std::uint32_t>{7, 8});
}

TEST_CASE("link: the last messages of an ended side are read although it left some unread") {
    auto pair = make_link();
    REQUIRE(pair);
    REQUIRE(pair->supervisor.try_send(to_generation::Ping{}));
    REQUIRE(pair->generation.try_send(to_supervisor::Release{1}));
    REQUIRE(pair->generation.try_send(to_supervisor::Release{2}));
    {
        const GenerationLink gone = std::move(pair->generation);
    }
    for (const ConnectionId connection_id : {ConnectionId{1}, ConnectionId{2}}) {
        const auto received = pair->supervisor.receive();
        REQUIRE((received && *received));
        CHECK(std::get<to_supervisor::Release>((*received)->message).connection_id == connection_id);
    }
    CHECK(pair->supervisor.receive().error().kind == proto::ErrorKind::disconnected);
}

TEST_CASE("link: a message arrives with its descriptor, and the end of the other side shows") {
    const auto before = test::DescriptorTable::now();
    {
        auto pair = make_link();
        REQUIRE(pair);
        CHECK(!pair->generation.receive().value());
        const proto::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        REQUIRE(pair->supervisor.try_send(to_generation::Adopt{.connection_id = 99, .listener = 3},
                                          null.borrow()));
        auto received = pair->generation.receive();
        REQUIRE((received && *received));
        const auto& adopt = std::get<to_generation::Adopt>((*received)->message);
        CHECK(adopt.connection_id == 99);
        CHECK(adopt.listener == 3);
        CHECK((*received)->attached);
        {
            const SupervisorLink gone = std::move(pair->supervisor);
        }
        CHECK(pair->generation.receive().error().kind == proto::ErrorKind::disconnected);
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("link: a generation cannot hand its supervisor a descriptor where the kernel has SO_PASSRIGHTS") {
    auto pair = make_link();
    REQUIRE(pair);
    const int on = 1;
    FDBROKER_SKIP_UNLESS(
        ::setsockopt(pair->generation.descriptor().number(), SOL_SOCKET, 83, &on, sizeof on) == 0,
        "needs SO_PASSRIGHTS (Linux 6.16)");
    const auto sent = pair->generation.try_send(to_supervisor::Pong{}, proto::BorrowedFd(STDIN_FILENO));
    REQUIRE(!sent);
    CHECK(sent.error().errno_value == EPERM);
    CHECK(pair->supervisor.try_send(to_generation::Ping{}, proto::BorrowedFd(STDIN_FILENO)));
}

TEST_CASE("link: a full descriptor table loses the descriptor, not the message") {
    test::run_in_child([] {
        auto pair = make_link();
        REQUIRE(pair);
        REQUIRE(pair->supervisor.try_send(to_generation::Adopt{.connection_id = 99},
                                          pair->supervisor.descriptor()));
        const rlimit none{.rlim_cur = 0, .rlim_max = 0};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        auto received = pair->generation.receive();
        REQUIRE((received && *received));
        CHECK(std::get<to_generation::Adopt>((*received)->message).connection_id == 99);
        CHECK(!(*received)->attached);
    });
}

TEST_CASE("link: a full queue is EAGAIN for who must not wait") {
    auto pair = make_link();
    REQUIRE(pair);
    proto::Result<void> sent;
    while (sent) sent = pair->supervisor.try_send(to_generation::Ping{});
    CHECK(sent.error().errno_value == EAGAIN);
    while (pair->generation.receive().value()) {
    }
    CHECK(pair->supervisor.try_send(to_generation::Ping{}));
}

TEST_CASE("link: a message with too few or too many bytes is refused") {
    auto pair = make_link();
    REQUIRE(pair);
    const auto whole = encode<ToSupervisor>(to_supervisor::SetWorkers{.connection_id = 7, .count = 3});
    std::string bytes(reinterpret_cast<const char*>(whole.bytes().data()), whole.size);
    bytes.resize(LinkSizes<ToSupervisor>::max + 8);
    for (std::size_t size = 1; size <= bytes.size(); ++size) {
        REQUIRE(::send(pair->generation.descriptor().number(), bytes.data(), size, 0) ==
                static_cast<ssize_t>(size));
        const auto received = pair->supervisor.receive();
        if (size == whole.size)
            CHECK(std::get<to_supervisor::SetWorkers>((*received)->message).count == 3);
        else
            CHECK(received.error().kind == proto::ErrorKind::protocol);
    }
}

TEST_CASE("codec: each message of both directions arrives as it was sent") {
    check_each_arrives_whole<ToGeneration>();
    check_each_arrives_whole<ToSupervisor>();
}

TEST_CASE("codec: an index beyond the direction's messages is no message") {
    for (const std::uint32_t index :
         {static_cast<std::uint32_t>(std::variant_size_v<ToSupervisor>), 0xffffffffU}) {
        for (std::size_t size = 0; size <= LinkSizes<ToSupervisor>::max; ++size) {
            std::vector<std::byte> bytes(std::max(size, sizeof index));
            std::memcpy(bytes.data(), &index, sizeof index);
            bytes.resize(size);
            CHECK_FALSE(decode<ToSupervisor>(bytes));
        }
    }
}

TEST_CASE("message table: a message reaches its handler in the phases that its row allows") {
    Hearer hearer;
    CHECK(hearers_table.dispatch(Three(to_supervisor::Release{7}), {}, Phase::first, hearer));
    CHECK_FALSE(hearers_table.dispatch(Three(to_supervisor::Release{8}), {}, Phase::second, hearer));
    CHECK_FALSE(hearers_table.dispatch(Three(to_supervisor::Renew{}), {}, Phase::first, hearer));
    CHECK(hearers_table.dispatch(Three(to_supervisor::Renew{}), {}, Phase::second, hearer));
    CHECK(hearer.heard == "release 7;renew;");
}

TEST_CASE("message table: a handler that takes none has the descriptor closed") {
    const auto before = test::DescriptorTable::now();
    {
        Hearer hearer;
        const auto open_null = [] { return proto::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); };
        CHECK(hearers_table.dispatch(Three(to_supervisor::Pong{1}), open_null(), Phase::first, hearer));
        CHECK(hearer.attached);
        CHECK(hearers_table.dispatch(Three(to_supervisor::Release{1}), open_null(), Phase::first, hearer));
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}
