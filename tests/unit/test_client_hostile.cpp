// SPDX-License-Identifier: MIT
// A broker that means ill, or is broken: what it sends and withholds never holds a client up beyond its timeout, never
// leaves a descriptor behind, and is never taken for an answer.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <latch>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "proto/payload.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/unit/test_client_broker.hpp"
#include "tests/unit/test_proto_table.hpp"
#include "worker/client/connection.hpp"

namespace fdbroker::test {
namespace {

using proto::Call;
using proto::UniqueFd;
using worker::Connection;
using namespace std::string_literals;

// A connection to a broker that sends an answer to nobody whenever its client looks for one.
struct Flooded {
    Flooded() {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
        peer = std::make_unique<BrokerEnd>(UniqueFd(ends[1]));
        connection = std::make_unique<Connection>(UniqueFd(ends[0]), 1000);
        connection->set_peer([this] { peer->reply({{.id = 1, .has_descriptor = true}}, {"stale"}); });
    }
    std::unique_ptr<BrokerEnd> peer;
    std::unique_ptr<Connection> connection;
};

Client answered_once(FakeBroker& broker) {
    Client client = connect_to(broker);
    fdbroker_set_timeout(client.get(), 60000);
    return client;
}

bool is_readable(const Client& client) {
    pollfd waited{.fd = fdbroker_descriptor(client.get()), .events = POLLIN, .revents = 0};
    return ::poll(&waited, 1, 0) == 1;
}

fdbroker_completion completed(const Client& client) {
    fdbroker_completion done{};
    done.size = sizeof done;
    REQUIRE(fdbroker_complete(client.get(), &done, 1, 60000) == 1);
    return done;
}

fdbroker_request for_call(unsigned call, const char* second = nullptr) {
    fdbroker_request request = request_for("/a");
    request.call = call;
    request.second = second;
    return request;
}

}  // namespace

TEST_CASE("hostile: answers to nobody without end do not hold a call up beyond its timeout") {
    const auto before = DescriptorTable::now();
    {
        const Flooded flooded;
        flooded.connection->set_timeout(50);
        CHECK(flooded.connection->ask({.path = "/a"}) == -ETIMEDOUT);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("hostile: answers to nobody without end do not hold up who waits for completions") {
    const auto before = DescriptorTable::now();
    {
        const Flooded flooded;
        const worker::Submission request{.ask = {.path = "/a"}};
        REQUIRE(flooded.connection->submit({&request, 1}) == 1);
        CHECK(flooded.connection->complete(10, 0) == 0);
        CHECK(flooded.connection->complete(10, 50) == 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("hostile: answers to what was given up are taken while a request waits to be sent") {
    std::latch given_up(1);
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        given_up.wait();
        // More than the socket holds: sent only when the client reads, which it does while it cannot send itself.
        const std::string payload(60000, 'x');
        for (int count = 0; count < 20; ++count) end.reply({{.id = 0, .payload = payload}}, {""});
        for (;;)
            for (const Asked& asked : end.receive_requests())
                if (asked.path == "/last") return end.grant(asked);
    }));
    const Client client = answered_once(broker);
    const std::string path = path_of_length(4000);
    std::vector<fdbroker_request> requests(1012, request_for(path.c_str()));
    for (fdbroker_request& request : requests) request.timeout = 1;
    REQUIRE(fdbroker_submit(client.get(), requests.data(), requests.size()) == 1012);
    for (std::size_t count = 0; count < requests.size(); ++count)
        CHECK(completed(client).result == -ETIMEDOUT);
    given_up.count_down();
    const UniqueFd file(fdbroker_open(client.get(), "/last", O_RDONLY, 0));
    CHECK(content_of(file.number()) == "/last");
    CHECK(broker.trouble() == "");
}

TEST_CASE("hostile: a directory that leads from page to page without end is given up at the timeout") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        for (std::uint64_t cursor = 1;; ++cursor) {
            const auto next = proto::number_payload(cursor);
            end.answer(end.receive_requests().at(0), {next.data(), next.size()});
        }
    }));
    const Client client = connect_to(broker);
    REQUIRE(fdbroker_set_timeout(client.get(), 50) == 0);
    const auto none = [](void*, const fdbroker_entry*) { return 0; };
    CHECK(fdbroker_list(client.get(), "/d", none, nullptr) == -ETIMEDOUT);
}

TEST_CASE("hostile: a page of a directory that leads to itself ends the connection") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        const auto next = proto::number_payload(5);
        for (int count = 0; count < 2; ++count)
            end.answer(end.receive_requests().at(0), {next.data(), next.size()});
    }));
    const Client client = answered_once(broker);
    const auto none = [](void*, const fdbroker_entry*) { return 0; };
    CHECK(fdbroker_list(client.get(), "/d", none, nullptr) == -EPROTO);
    CHECK(broker.trouble() == "");
}

TEST_CASE("hostile: when a call finds the protocol broken, whoever waits for completions is woken") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        end.receive_requests();
        end.answer(end.receive_requests().at(0), "no status");
        end.receive();
    }));
    const Client client = answered_once(broker);
    const fdbroker_request request = request_for("/a");
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    CHECK_FALSE(is_readable(client));
    struct statx status{};
    CHECK(fdbroker_stat(client.get(), "/a", 0, &status) == -EPROTO);
    CHECK(is_readable(client));
    CHECK(completed(client).result == -ECONNRESET);
}

TEST_CASE("hostile: a completion of stat without a status is EPROTO, and the connection is over") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.answer(end.receive_requests().at(0)); }));
    const Client client = answered_once(broker);
    const fdbroker_request request = for_call(FDBROKER_CALL_STAT);
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    const auto done = completed(client);
    CHECK(done.result == -EPROTO);
    CHECK(done.data == nullptr);
    CHECK(done.reason == "client: the answer is not as it should be"s);
    CHECK(fdbroker_open(client.get(), "/a", O_RDONLY, 0) == -ECONNRESET);
}

TEST_CASE("hostile: the empty value of an attribute is bytes with a NUL, as every other") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.answer(end.receive_requests().at(0)); }));
    const Client client = answered_once(broker);
    const fdbroker_request request = for_call(FDBROKER_CALL_GETXATTR, "user.k");
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    const auto done = completed(client);
    CHECK(done.result == 0);
    CHECK(done.data_size == 0);
    REQUIRE(done.data != nullptr);
    CHECK(static_cast<const char*>(done.data) == ""s);
}

TEST_CASE("hostile: names of attributes without their last NUL end the connection") {
    FakeBroker broker(
        after_hello([](BrokerEnd& end) { end.answer(end.receive_requests().at(0), "user.k"); }));
    const Client client = answered_once(broker);
    std::array<char, 20> names{};
    CHECK(fdbroker_listxattr(client.get(), "/a", names.data(), names.size()) == -EPROTO);
}

TEST_CASE(
    "hostile: answers that an inherited socket still holds are not taken for the hello's, nor for one's "
    "own") {
    const auto before = DescriptorTable::now();
    {
        std::set<std::uint32_t> ids;
        for (int round = 0; round < 4; ++round) {
            FakeBroker broker([&ids](BrokerEnd& end) {
                end.reply({{.id = 1, .has_descriptor = true}}, {"another's"});
                end.answer_hello();
                const auto asked = end.receive_requests().at(0);
                ids.insert(asked.id);
                end.grant(asked);
            });
            const Client client = answered_once(broker);
            const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
            CHECK(content_of(file.number()) == "/a");
            CHECK(broker.trouble() == "");
        }
        CHECK(ids.size() == 4);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("hostile: a put whose descriptor finds no room is discarded") {
    FDBROKER_SKIP_UNLESS(TableWithRoom::is_possible(),
                         "needs a limit of descriptors that the kernel knows of");
    const auto before = DescriptorTable::now();
    {
        std::latch sent(1);
        FakeBroker broker(after_hello([&sent](BrokerEnd& end) {
            const auto first = end.receive_requests().at(0);
            end.refuse(first, EACCES);
            // Before it is asked, since both ends share the table that is to be full then.
            const auto number = proto::number_payload(77);
            const std::string payload(number.data(), number.size());
            end.reply({{.id = first.id + 1, .has_descriptor = true, .payload = payload}}, {"temporary"});
            sent.count_down();
            end.receive_requests();
            const auto asked = end.receive_requests().at(0);
            CHECK(asked.call == Call::discard);
            CHECK(asked.path == "/a");
            CHECK(asked.payload == payload);
            end.answer(asked);
        }));
        const Client client = answered_once(broker);
        CHECK(fdbroker_open(client.get(), "/first", O_RDONLY, 0) == -EACCES);
        sent.wait();
        std::uint64_t put = 0;
        {
            const TableWithRoom table(0);
            CHECK(fdbroker_put(client.get(), "/a", 0640, &put) == -EMFILE);
        }
        CHECK(fdbroker_reason(client.get()) == "client: the descriptor table of this process is full"s);
        CHECK(put == 0);
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

}  // namespace fdbroker::test
