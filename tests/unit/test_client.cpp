// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>

#include <algorithm>
#include <latch>
#include <string>
#include <vector>

#include "tests/support/descriptors.hpp"
#include "tests/unit/test_client_broker.hpp"
#include "tests/unit/test_proto_table.hpp"
#include "worker/client/connection.hpp"

namespace fdbroker::test {
namespace {

using proto::Reply;
using proto::Step;
using proto::UniqueFd;

// Requests for /0, /1, …
struct Requests {
    explicit Requests(std::size_t count, std::size_t path_length = 0) {
        for (std::size_t index = 0; index < count; ++index) {
            paths.push_back("/" + std::to_string(index));
            const std::size_t size = paths.back().size();
            if (path_length > size) paths.back() += path_of_length(path_length - size);
        }
        for (const std::string& path : paths) list.push_back(request_for(path.c_str()));
        fds.assign(count, -1000);
    }
    int open(const Client& client) {
        return fdbroker_open_many(client.get(), list.data(), list.size(), fds.data());
    }
    // Every descriptor holds the path that was asked for; they are closed.
    void check_and_close() {
        for (std::size_t index = 0; index < fds.size(); ++index) {
            const UniqueFd file(fds[index]);
            CHECK(content_of(fds[index]) == paths[index]);
        }
    }

    std::vector<std::string> paths;
    std::vector<fdbroker_request> list;
    std::vector<int> fds;
};

void grant_all(BrokerEnd& end, std::size_t count) {
    for (std::size_t granted = 0; granted < count;)
        for (const Asked& asked : end.receive_requests()) {
            end.grant(asked);
            ++granted;
        }
}

// Runs open_many for `count` files against `script` and hands back what it returned; nothing may be left open.
int outcome_of(std::size_t count, FakeBroker::Script script, std::string* reason = nullptr) {
    const auto before = DescriptorTable::now();
    int result = 0;
    {
        FakeBroker broker(after_hello(std::move(script)));
        const Client client = connect_to(broker);
        Requests requests(count);
        result = requests.open(client);
        if (reason != nullptr) *reason = fdbroker_reason(client.get());
        if (result < 0) {
            CHECK(std::ranges::all_of(requests.fds, [result](int fd) { return fd == result; }));
            CHECK(fdbroker_open(client.get(), "/x", O_RDONLY, 0) == -ECONNRESET);
            // Nothing waits for the disconnect, neither the socket nor what came last.
            broker.trouble();
            CHECK(DescriptorTable::now().changes_since(before) == "");
        } else {
            requests.check_and_close();
        }
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
    return result;
}

}  // namespace

TEST_CASE("client: an open delivers the file, close-on-exec, and asks with the flags and mode given") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const auto asked = end.receive_requests();
            CHECK(asked.size() == 1);
            CHECK(asked[0].path == "/srv/new");
            CHECK(asked[0].flags == (O_WRONLY | O_CREAT | O_EXCL));
            CHECK(asked[0].mode == 0640);
            end.grant(asked[0]);
        }));
        const Client client = connect_to(broker);
        const UniqueFd file(fdbroker_open(client.get(), "/srv/new", O_WRONLY | O_CREAT | O_EXCL, 0640));
        REQUIRE(file);
        CHECK(content_of(file.number()) == "/srv/new");
        CHECK((::fcntl(file.number(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(fdbroker_reason(client.get()) == std::string(""));
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a refusal is its errno, and the reason tells step, words and audit record") {
    struct Case {
        Reply reply;
        std::string reason;
    };
    const std::vector<Case> cases{
        {{.status = EACCES, .step = Step::decide, .record = 4711, .reason = "no rule allows read"},
         "decide: no rule allows read (record 4711)"},
        {{.status = ENOENT, .step = Step::resolve, .record = 1},
         "resolve: No such file or directory (record 1)"},
        {{.status = 4095, .step = Step::inspect}, "inspect: unknown error"},
        {{.status = EIO, .step = Step::record, .reason = std::string_view("disk full")}, "record: disk full"},
    };
    FakeBroker broker(after_hello([&cases](BrokerEnd& end) {
        for (const Case& one : cases) {
            Reply reply = one.reply;
            reply.id = end.receive_requests().at(0).id;
            end.reply({reply}, {""});
        }
        end.grant(end.receive_requests().at(0));
    }));
    const Client client = connect_to(broker);
    for (const Case& one : cases) {
        CHECK(fdbroker_open(client.get(), "/etc/shadow", O_RDONLY, 0) == -one.reply.status);
        CHECK(fdbroker_reason(client.get()) == one.reason);
    }
    const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
    CHECK(file);
    CHECK(fdbroker_reason(client.get()) == std::string(""));
    CHECK(broker.trouble() == "");
}

TEST_CASE("client: a path that cannot be sent is refused here, and the others are asked for") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        const auto asked = end.receive_requests();
        CHECK(asked.size() == 2);
        for (const Asked& one : asked) end.grant(one);
        end.grant(end.receive_requests().at(0));
    }));
    const Client client = connect_to(broker);
    CHECK(fdbroker_open(client.get(), nullptr, O_RDONLY, 0) == -EFAULT);
    CHECK(fdbroker_reason(client.get()) == std::string("client: the path is NULL"));
    const std::string too_long(4096, '/');
    CHECK(fdbroker_open(client.get(), too_long.c_str(), O_RDONLY, 0) == -ENAMETOOLONG);
    CHECK(fdbroker_reason(client.get()) == std::string("client: the path or a name in it is too long"));
    const std::array<fdbroker_request, 4> requests{
        {request_for("/a"), request_for(nullptr), request_for(too_long.c_str()), request_for("/b")}};
    std::array<int, 4> fds{};
    REQUIRE(fdbroker_open_many(client.get(), requests.data(), requests.size(), fds.data()) == 0);
    const UniqueFd first(fds[0]);
    const UniqueFd last(fds[3]);
    CHECK(content_of(fds[0]) == "/a");
    CHECK(fds[1] == -EFAULT);
    CHECK(fds[2] == -ENAMETOOLONG);
    CHECK(content_of(fds[3]) == "/b");
    const UniqueFd longest(fdbroker_open(client.get(), too_long.c_str() + 1, O_RDONLY, 0));
    CHECK(longest);
    CHECK(broker.trouble() == "");
}

TEST_CASE("client: NULL arguments are EFAULT or do nothing") {
    CHECK(fdbroker_connect(nullptr, "fd:0") == -EFAULT);
    CHECK(fdbroker_open(nullptr, "/a", O_RDONLY, 0) == -EFAULT);
    CHECK(fdbroker_open_many(nullptr, nullptr, 0, nullptr) == -EFAULT);
    CHECK(fdbroker_set_timeout(nullptr, 1) == -EFAULT);
    CHECK(fdbroker_reason(nullptr) == std::string(""));
    fdbroker_disconnect(nullptr);
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    const Client client = connect_to(broker);
    int fd = 0;
    const fdbroker_request request = request_for("/a");
    CHECK(fdbroker_open_many(client.get(), nullptr, 1, &fd) == -EFAULT);
    CHECK(fdbroker_open_many(client.get(), &request, 1, nullptr) == -EFAULT);
    CHECK(fdbroker_open_many(client.get(), nullptr, 0, nullptr) == 0);
}

TEST_CASE("client: many requests travel in as few messages as the broker's limits allow") {
    struct Case {
        std::uint16_t max_requests;
        std::uint32_t max_message;
        std::size_t count;
        std::size_t path_length;
        std::size_t messages;
    };
    // A request takes 20 bytes and its path with the NUL, padded to 4; a message 8 more.
    for (const Case& one :
         {Case{253, 65536, 253, 0, 1}, Case{253, 65536, 254, 0, 2}, Case{10, 65536, 95, 0, 10},
          Case{253, 65536, 100, 4095, 7}, Case{253, 4124, 3, 4095, 3}, Case{1, 4124, 5, 0, 5}}) {
        CAPTURE(one.count);
        CAPTURE(one.path_length);
        FakeBroker broker([&one](BrokerEnd& end) {
            end.answer_hello(
                {.max_requests_per_message = one.max_requests, .max_message = one.max_message, .calls = 1});
            std::size_t granted = 0;
            for (std::size_t message = 0; message < one.messages; ++message)
                for (const Asked& asked : end.receive_requests()) {
                    end.reply({{.id = asked.id, .has_descriptor = true}}, {asked.path.substr(0, 100)});
                    ++granted;
                }
            CHECK(granted == one.count);
        });
        const Client client = connect_to(broker);
        Requests requests(one.count, one.path_length);
        REQUIRE(requests.open(client) == 0);
        for (std::string& path : requests.paths) path = path.substr(0, 100);
        requests.check_and_close();
        CHECK(broker.trouble() == "");
    }
}

TEST_CASE("client: replies may come in any order and grouped in any way") {
    for (const std::size_t group : {1u, 2u, 7u, 100u}) {
        CAPTURE(group);
        const auto before = DescriptorTable::now();
        {
            FakeBroker broker(after_hello([group](BrokerEnd& end) {
                auto asked = end.receive_requests();
                std::ranges::reverse(asked);
                std::swap(asked[1], asked[5]);
                for (std::size_t at = 0; at < asked.size(); at += group) {
                    std::vector<Reply> replies;
                    std::vector<std::string> contents;
                    for (std::size_t index = at; index < std::min(at + group, asked.size()); ++index) {
                        const bool granted = std::stoi(asked[index].path.substr(1)) % 3 != 1;
                        replies.push_back({.id = asked[index].id,
                                           .status = granted ? 0 : EACCES,
                                           .has_descriptor = granted,
                                           .step = granted ? Step::none : Step::decide});
                        contents.push_back(asked[index].path);
                    }
                    end.reply(replies, contents);
                }
            }));
            const Client client = connect_to(broker);
            Requests requests(100);
            REQUIRE(requests.open(client) == 0);
            std::size_t refused = 0;
            for (std::size_t index = 0; index < requests.fds.size(); ++index) {
                if (requests.fds[index] == -EACCES) {
                    ++refused;
                    continue;
                }
                const UniqueFd file(requests.fds[index]);
                CHECK(content_of(file.number()) == requests.paths[index]);
            }
            CHECK(refused == 33);
            CHECK(broker.trouble() == "");
        }
        CHECK(DescriptorTable::now().changes_since(before) == "");
    }
}

TEST_CASE("client: an answer nobody waits for is thrown away, and its file closed") {
    CHECK(outcome_of(2, [](BrokerEnd& end) {
              const auto asked = end.receive_requests();
              for (const std::uint32_t id :
                   {asked[0].id - 1, asked[1].id + 1, asked[0].id + 4096, 0u, 0xffffffffu})
                  end.reply({{.id = id, .has_descriptor = true}}, {"stray"});
              end.grant(asked[0]);
              // A second answer with another file, once in the same message and once in a separate one.
              end.reply({{.id = asked[0].id, .has_descriptor = true}}, {"twice"});
              end.reply({{.id = asked[0].id, .status = EIO, .step = Step::deliver},
                         {.id = asked[1].id, .has_descriptor = true},
                         {.id = asked[1].id, .has_descriptor = true}},
                        {"", asked[1].path, "twice"});
          }) == 0);
}

TEST_CASE("client: descriptors other than those promised end the connection, and none stays open") {
    const UniqueFd file = memory_file("x");
    const auto with_descriptors = [&file](std::vector<Reply> replies, std::size_t count) {
        return [&file, replies, count](BrokerEnd& end) mutable {
            std::array<std::byte, 4096> buffer{};
            proto::ReplyWriter writer(buffer);
            const auto asked = end.receive_requests();
            for (std::size_t index = 0; index < replies.size(); ++index) {
                replies[index].id = asked.at(index).id;
                CHECK(writer.add(replies[index]));
            }
            end.send(writer.message(), std::vector<proto::BorrowedFd>(count, file.borrow()));
        };
    };
    const Reply granted{.has_descriptor = true};
    const Reply refused{.status = EACCES, .step = Step::decide};
    const Reply done{};
    CHECK(outcome_of(1, with_descriptors({granted}, 0)) == -EPROTO);
    CHECK(outcome_of(1, with_descriptors({granted}, 2)) == -EPROTO);
    CHECK(outcome_of(1, with_descriptors({granted}, 253)) == -EPROTO);
    CHECK(outcome_of(1, with_descriptors({refused}, 1)) == -EPROTO);
    CHECK(outcome_of(1, with_descriptors({done}, 0)) == -EPROTO);
    CHECK(outcome_of(1, with_descriptors({done}, 1)) == -EPROTO);
    CHECK(outcome_of(3, with_descriptors({granted, granted, refused}, 1)) == -EPROTO);
    CHECK(outcome_of(3, with_descriptors({granted, granted, refused}, 3)) == -EPROTO);
    CHECK(outcome_of(3, with_descriptors({granted, done}, 1)) == -EPROTO);
}

TEST_CASE("client: bytes that are no replies end the connection") {
    const UniqueFd file = memory_file("x");
    const auto sending = [&file](Bytes bytes) {
        return [&file, bytes](BrokerEnd& end) {
            end.grant(end.receive_requests().at(0));
            end.send(bytes, {file.borrow(), file.borrow()});
        };
    };
    std::array<std::byte, 256> buffer{};
    const std::span<const std::byte> bytes(buffer);
    const auto copy = [&bytes](std::size_t size) {
        return Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    };
    std::string reason;
    CHECK(outcome_of(2, sending(Bytes(100, std::byte{0xff})), &reason) == -EPROTO);
    CHECK(reason == "client: another protocol version");
    CHECK(outcome_of(2, sending(copy(proto::write_hello(buffer)))) == -EPROTO);
    CHECK(outcome_of(2, sending(copy(proto::write_hello_reply(buffer, {})))) == -EPROTO);
    proto::ReplyWriter writer(buffer);
    REQUIRE(writer.add({.id = 2, .status = EACCES, .step = Step::decide, .reason = "why not"}));
    for (std::size_t size = 1; size < writer.message().size(); ++size)
        CHECK(outcome_of(2, sending(copy(size))) == -EPROTO);
    Bytes end = copy(proto::write_end(buffer, EIO, "reason"));
    end.pop_back();
    CHECK(outcome_of(2, sending(end)) == -EPROTO);
    CHECK(outcome_of(2, sending(Bytes(proto::max_message_size + 1))) == -EPROTO);
}

TEST_CASE("client: an end message is a lost connection with its reason") {
    std::string reason;
    CHECK(outcome_of(
              2,
              [](BrokerEnd& end) {
                  end.grant(end.receive_requests().at(0));
                  end.send_end(EPROTO, "a field outside its range");
              },
              &reason) == -ECONNRESET);
    CHECK(reason == "client: the broker ended the connection: a field outside its range");
}

TEST_CASE(
    "client: a broker that hangs up in the middle of a batch is a lost connection, and no file stays open") {
    std::string reason;
    CHECK(outcome_of(
              2, [](BrokerEnd& end) { end.grant(end.receive_requests().at(0)); }, &reason) == -ECONNRESET);
    CHECK(reason == "client: the broker is gone");
    // Between two messages of one call: what the first brought is closed as well.
    CHECK(outcome_of(300, [](BrokerEnd& end) {
              for (const Asked& asked : end.receive_requests()) end.grant(asked);
          }) == -ECONNRESET);
    CHECK(outcome_of(1, [](BrokerEnd&) {}) == -ECONNRESET);
}

TEST_CASE("client: a full descriptor table is EMFILE for what does not fit, and the connection goes on") {
    FDBROKER_SKIP_UNLESS(TableWithRoom::is_possible(),
                         "needs a limit of descriptors that the kernel knows of");
    const auto before = DescriptorTable::now();
    for (const std::size_t fitting : {0u, 1u, 4u}) {
        CAPTURE(fitting);
        std::latch sent(1);
        FakeBroker broker(after_hello([&sent](BrokerEnd& end) {
            const auto first = end.receive_requests().at(0);
            end.refuse(first, EACCES);
            // Before it is asked, since both ends share the table that is to be full then: the ids go on from the first.
            const std::uint32_t next = first.id + 1;
            end.reply({{.id = next, .has_descriptor = true}, {.id = next + 1, .has_descriptor = true}},
                      {"/0", "/1"});
            end.reply({{.id = next + 2, .status = EACCES, .step = Step::decide},
                       {.id = next + 3, .has_descriptor = true},
                       {.id = next + 4, .has_descriptor = true}},
                      {"", "/3", "/4"});
            sent.count_down();
            end.receive_requests();
            end.grant(end.receive_requests().at(0));
        }));
        const Client client = connect_to(broker);
        CHECK(fdbroker_open(client.get(), "/first", O_RDONLY, 0) == -EACCES);
        sent.wait();
        Requests requests(5);
        {
            const TableWithRoom table(fitting);
            REQUIRE(requests.open(client) == 0);
        }
        std::size_t delivered = 0;
        for (std::size_t index = 0; index < 5; ++index) {
            const UniqueFd file(requests.fds[index]);
            if (file) {
                CHECK(content_of(file.number()) == requests.paths[index]);
                ++delivered;
            } else {
                CHECK(requests.fds[index] == (index == 2 ? -EACCES : -EMFILE));
            }
        }
        CHECK(delivered == fitting);
        const UniqueFd later(fdbroker_open(client.get(), "/later", O_RDONLY, 0));
        CHECK(content_of(later.number()) == "/later");
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a call gives up at its timeout, and its late answer is thrown away") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const auto first = end.receive_requests();
            const auto second = end.receive_requests();
            end.grant(first[0]);
            end.grant(second[0]);
        }));
        const Client client = connect_to(broker);
        REQUIRE(fdbroker_set_timeout(client.get(), 1) == 0);
        CHECK(fdbroker_open(client.get(), "/first", O_RDONLY, 0) == -ETIMEDOUT);
        CHECK(fdbroker_reason(client.get()) == std::string("client: the broker did not answer in time"));
        REQUIRE(fdbroker_set_timeout(client.get(), 60000) == 0);
        const UniqueFd second(fdbroker_open(client.get(), "/second", O_RDONLY, 0));
        CHECK(content_of(second.number()) == "/second");
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a timeout holds for a broker that does not read, too") {
    std::latch done(1);
    FakeBroker broker(after_hello([&done](BrokerEnd&) { done.wait(); }));
    const Client client = connect_to(broker);
    REQUIRE(fdbroker_set_timeout(client.get(), 1) == 0);
    Requests requests(15, 4095);
    for (int round = 0; round < 50; ++round) CHECK(requests.open(client) == -ETIMEDOUT);
    done.count_down();
}

TEST_CASE("client: ids begin anew before they would run out, and still increase within a message") {
    FakeBroker broker([](BrokerEnd& end) {
        for (int message = 0; message < 3; ++message)
            for (const Asked& asked : end.receive_requests()) end.grant(asked);
    });
    auto connection = std::make_unique<worker::Connection>(broker.take_client_end(),
                                                           UINT32_MAX - proto::max_requests - 100);
    Requests requests(600);
    REQUIRE(connection->ask_many(requests.fds, [&](std::size_t index) {
        return worker::Ask{.path = requests.paths[index].c_str()};
    }) == 0);
    requests.check_and_close();
    CHECK(broker.trouble() == "");
}

TEST_CASE("client: a child finds its copy closed, the parent goes on") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { grant_all(end, 1); }));
    const int number = std::stoi(broker.address().substr(3));
    Client client = connect_to(broker);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const bool closed = ::fcntl(number, F_GETFD) == -1;
        const int error = fdbroker_open(client.get(), "/a", O_RDONLY, 0);
        int fd = 0;
        const fdbroker_request request = request_for("/a");
        const int many = fdbroker_open_many(client.get(), &request, 1, &fd);
        client.reset();
        ::_exit(closed && error == -EBADF && many == -EBADF && fd == -EBADF ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
    CHECK(content_of(file.number()) == "/a");
}

}  // namespace fdbroker::test
