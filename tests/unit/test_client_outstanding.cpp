// SPDX-License-Identifier: MIT
// Requests that are submitted and completed, for event loops.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <latch>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "proto/payload.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/wait.hpp"
#include "tests/unit/test_client_broker.hpp"
#include "worker/client/outstanding.hpp"

namespace fdbroker::test {
namespace {

using proto::Call;
using proto::UniqueFd;
using namespace std::string_literals;

fdbroker_request tagged(const char* path, std::uint64_t tag) {
    fdbroker_request request = request_for(path);
    request.tag = tag;
    return request;
}

// Up to ten completions, their files closed by whoever takes them.
std::vector<fdbroker_completion> complete(const Client& client, int timeout = 60000) {
    std::vector<fdbroker_completion> completions(10);
    completions[0].size = sizeof(fdbroker_completion);
    const int count = fdbroker_complete(client.get(), completions.data(), completions.size(), timeout);
    REQUIRE(count >= 0);
    completions.resize(static_cast<std::size_t>(count));
    return completions;
}

bool is_readable(const Client& client, int timeout = 0) {
    pollfd waited{.fd = fdbroker_descriptor(client.get()), .events = POLLIN, .revents = 0};
    return ::poll(&waited, 1, timeout) == 1;
}

}  // namespace

TEST_CASE("outstanding: hundreds of requests are answered in any order, each with its tag") {
    const auto before = DescriptorTable::now();
    constexpr std::size_t count = 900;
    {
        std::latch checked(1);
        FakeBroker broker(after_hello([&checked](BrokerEnd& end) {
            std::vector<Asked> all;
            while (all.size() < count)
                for (const Asked& asked : end.receive_requests()) all.push_back(asked);
            std::ranges::reverse(all);
            for (const Asked& asked : all)
                asked.path.back() == '7' ? end.refuse(asked, EACCES) : end.grant(asked);
            checked.wait();
        }));
        const Client client = connect_to(broker);
        std::vector<std::string> paths;
        for (std::size_t index = 0; index < count; ++index) paths.push_back("/" + std::to_string(index));
        for (std::size_t index = 0; index < count; ++index) {
            const fdbroker_request request = tagged(paths[index].c_str(), index);
            REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
        }
        std::set<std::uint64_t> seen;
        while (seen.size() < count) {
            wait_readable(proto::BorrowedFd(fdbroker_descriptor(client.get())));
            for (const fdbroker_completion& done : complete(client, 0)) {
                CHECK(seen.insert(done.tag).second);
                if (paths[done.tag].back() == '7') {
                    CHECK(done.result == -EACCES);
                    CHECK(done.reason == "decide: Permission denied"s);
                    continue;
                }
                const UniqueFd file(done.result);
                CHECK(content_of(done.result) == paths[done.tag]);
                CHECK(done.reason == ""s);
            }
        }
        CHECK(complete(client).empty());
        CHECK_FALSE(is_readable(client));
        checked.count_down();
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("outstanding: requests that are submitted together travel together, and replies may be coalesced") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        const auto asked = end.receive_requests();
        CHECK(asked.size() == 3);
        end.reply({{.id = asked[0].id, .has_descriptor = true},
                   {.id = asked[1].id, .status = ENOENT, .step = proto::Step::resolve},
                   {.id = asked[2].id, .has_descriptor = true}},
                  {"a", "", "c"});
    }));
    const Client client = connect_to(broker);
    const std::array requests{tagged("/a", 1), tagged("/b", 2), tagged("/c", 3)};
    CHECK(fdbroker_submit(client.get(), requests.data(), requests.size()) == 3);
    const auto done = complete(client);
    REQUIRE(done.size() == 3);
    const UniqueFd first(done[0].result);
    const UniqueFd last(done[2].result);
    CHECK(content_of(first.number()) == "a");
    CHECK(done[1].result == -ENOENT);
    CHECK(content_of(last.number()) == "c");
}

TEST_CASE(
    "outstanding: while one is on its way, others wait for company and go in one message with the next "
    "call") {
    std::latch submitted(1), checked(1);
    FakeBroker broker(after_hello([&submitted, &checked](BrokerEnd& end) {
        const auto first = end.receive_requests();
        CHECK(first.size() == 1);
        const auto others = end.receive_requests();
        CHECK(others.size() == 3);
        const auto full = end.receive_requests();
        CHECK(full.size() == proto::max_requests);
        submitted.wait();
        for (const auto& message : {first, others, full})
            for (const Asked& asked : message) end.refuse(asked, EACCES);
        checked.wait();
    }));
    const Client client = connect_to(broker);
    std::uint64_t tag = 0;
    const auto submit = [&](std::size_t count) {
        for (; count > 0; --count) {
            const fdbroker_request request = tagged("/a", tag++);
            REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
        }
    };
    submit(1);
    CHECK_FALSE(is_readable(client));
    submit(3);
    CHECK(is_readable(client));
    CHECK(complete(client, 0).empty());
    CHECK_FALSE(is_readable(client));
    // A full message goes without waiting for the next call.
    submit(proto::max_requests);
    CHECK(is_readable(client));
    submit(1);
    CHECK_FALSE(is_readable(client));
    submitted.count_down();
    std::size_t answered = 0;
    while (answered + 1 < tag) answered += complete(client).size();
    checked.count_down();
    CHECK(broker.trouble() == "");
}

TEST_CASE("outstanding: a message takes requests while their ids increase and it has room") {
    worker::Outstanding outstanding;
    const auto write = [&](std::uint32_t id) {
        return outstanding.write({.id = id, .path = "/a"}, proto::max_message_size, 2);
    };
    CHECK(write(UINT32_MAX - 1));
    CHECK(write(UINT32_MAX));
    CHECK(outstanding.unsent_messages() == 1);
    CHECK(write(1));  // the message is full
    CHECK(outstanding.unsent_messages() == 2);
    CHECK(write(1));
    CHECK(outstanding.unsent_messages() == 3);
    CHECK(write(2));
    CHECK_FALSE(outstanding.write({.id = 3, .path = "/a"}, 16, 2));  // full, and fits none
    CHECK(outstanding.unsent_messages() == 3);
}

TEST_CASE("outstanding: calls in between wait for their own answers only") {
    std::latch checked(1);
    FakeBroker broker(after_hello([&checked](BrokerEnd& end) {
        const auto first = end.receive_requests().at(0);
        const auto second = end.receive_requests().at(0);
        end.grant(first);
        end.grant(second);
        checked.wait();
    }));
    const Client client = connect_to(broker);
    const fdbroker_request request = tagged("/later", 5);
    CHECK_FALSE(is_readable(client));
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    const UniqueFd file(fdbroker_open(client.get(), "/now", O_RDONLY, 0));
    CHECK(content_of(file.number()) == "/now");
    // The answer has been read already: the descriptor tells all the same.
    CHECK(is_readable(client));
    const auto done = complete(client, 0);
    REQUIRE(done.size() == 1);
    const UniqueFd later(done[0].result);
    CHECK(content_of(later.number()) == "/later");
    CHECK_FALSE(is_readable(client));
    checked.count_down();
}

TEST_CASE("outstanding: other calls bring what they are asked for") {
    const auto status = proto::status_payload({.mask = STATX_SIZE, .size = 4711});
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        const auto asked = end.receive_requests();
        CHECK(asked.at(0).call == Call::stat);
        CHECK(asked.at(0).flags == AT_SYMLINK_NOFOLLOW);
        CHECK(asked.at(1).call == Call::rename);
        CHECK(asked.at(1).payload == "/new\0"s);
        CHECK(asked.at(2).call == Call::readlink);
        end.answer(asked[0], {status.data(), status.size()});
        end.answer(asked[1]);
        end.answer(asked[2], "target");
    }));
    const Client client = connect_to(broker);
    std::array requests{tagged("/s", 1), tagged("/old", 2), tagged("/l", 3)};
    requests[0].call = FDBROKER_CALL_STAT;
    requests[0].flags = AT_SYMLINK_NOFOLLOW;
    requests[1].call = FDBROKER_CALL_RENAME;
    requests[1].second = "/new";
    requests[2].call = FDBROKER_CALL_READLINK;
    CHECK(fdbroker_submit(client.get(), requests.data(), requests.size()) == 3);
    std::size_t seen = 0;
    while (seen < 3)
        for (const auto& done : complete(client)) {
            ++seen;
            CHECK(done.result == 0);
            if (done.tag == 1) {
                REQUIRE(done.data_size == sizeof(struct statx));
                CHECK(static_cast<const struct statx*>(done.data)->stx_size == 4711);
            } else if (done.tag == 3) {
                CHECK(static_cast<const char*>(done.data) == "target"s);
            } else {
                CHECK(done.data == nullptr);
            }
        }
}

TEST_CASE(
    "outstanding: arguments that are none are refused, and what cannot be sent is completed with its error") {
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    const Client client = connect_to(broker);
    fdbroker_request request = request_for("/a");
    request.call = 2;
    CHECK(fdbroker_submit(client.get(), &request, 1) == -EINVAL);
    request = request_for("/a");
    request.second = "/b";
    CHECK(fdbroker_submit(client.get(), &request, 1) == -EINVAL);
    request = request_for("/a");
    request.call = FDBROKER_CALL_RENAME;
    CHECK(fdbroker_submit(client.get(), &request, 1) == -EINVAL);
    request = request_for("/a");
    request.size = 7;
    CHECK(fdbroker_submit(client.get(), &request, 1) == -EINVAL);
    request = tagged(nullptr, 9);
    CHECK(fdbroker_submit(client.get(), &request, 1) == 1);
    CHECK(is_readable(client));
    const auto done = complete(client);
    REQUIRE(done.size() == 1);
    CHECK(done[0].tag == 9);
    CHECK(done[0].result == -EFAULT);
    CHECK(done[0].reason == "client: the path is NULL"s);
    fdbroker_completion completion{};
    CHECK(fdbroker_complete(client.get(), &completion, 1, 0) == -EINVAL);
}

TEST_CASE("outstanding: at its timeout a request is completed, and its late answer thrown away") {
    const auto before = DescriptorTable::now();
    {
        std::latch given_up(1);
        FakeBroker broker(after_hello([&](BrokerEnd& end) {
            const auto late = end.receive_requests();
            given_up.wait();
            end.grant(late.at(0));
            end.grant(end.receive_requests().at(0));
        }));
        const Client client = connect_to(broker);
        fdbroker_request request = tagged("/late", 1);
        request.timeout = 1;
        REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
        // The descriptor wakes for the end of the time as well.
        CHECK(is_readable(client, 60000));
        auto done = complete(client, 0);
        REQUIRE(done.size() == 1);
        CHECK(done[0].result == -ETIMEDOUT);
        CHECK(done[0].reason == "client: the broker did not answer in time"s);
        given_up.count_down();
        request = tagged("/again", 2);
        REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
        done = complete(client);
        REQUIRE(done.size() == 1);
        CHECK(done[0].tag == 2);
        const UniqueFd file(done[0].result);
        CHECK(content_of(file.number()) == "/again");
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("outstanding: nothing blocks while the broker does not read, and all arrives when it does") {
    std::latch filled(1);
    constexpr std::size_t count = 1000;
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        filled.wait();
        for (std::size_t answered = 0; answered < count;)
            for (const Asked& asked : end.receive_requests()) {
                end.refuse(asked, EACCES);
                ++answered;
            }
    }));
    const Client client = connect_to(broker);
    const std::string path = path_of_length(4001);
    for (std::size_t index = 0; index < count; ++index) {
        const fdbroker_request request = tagged(path.c_str(), index);
        REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    }
    CHECK_FALSE(is_readable(client));
    filled.count_down();
    std::size_t seen = 0;
    while (seen < count) {
        wait_readable(proto::BorrowedFd(fdbroker_descriptor(client.get())));
        seen += complete(client, 0).size();
    }
    CHECK(broker.trouble() == "");
}

TEST_CASE("outstanding: there is a most, and room again once completions are fetched") {
    std::latch end_of_test(1);
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        end.refuse(end.receive_requests().at(0), EACCES);
        end_of_test.wait();
    }));
    const Client client = connect_to(broker);
    std::vector<fdbroker_request> requests(2000, request_for("/a"));
    const int taken = fdbroker_submit(client.get(), requests.data(), requests.size());
    CHECK(taken == 1012);
    CHECK(fdbroker_submit(client.get(), requests.data(), 1) == -EAGAIN);
    CHECK(complete(client).size() == 1);
    CHECK(fdbroker_submit(client.get(), requests.data(), 2) == 1);
    end_of_test.count_down();
}

TEST_CASE("outstanding: when the connection ends, everything is completed first") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const auto asked = end.receive_requests();
            end.grant(asked.at(0));
            end.send_end(ESHUTDOWN, "the opener stops");
        }));
        const Client client = connect_to(broker);
        const std::array requests{tagged("/a", 0), tagged("/b", 1), tagged("/c", 2)};
        REQUIRE(fdbroker_submit(client.get(), requests.data(), requests.size()) == 3);
        std::map<std::uint64_t, int> results;
        std::string reason;
        while (results.size() < 3)
            for (const auto& done : complete(client)) {
                results[done.tag] = done.result;
                if (done.result < 0) reason = done.reason;
            }
        const UniqueFd file(results[0]);
        CHECK(file);
        CHECK(results[1] == -ECONNRESET);
        CHECK(results[2] == -ECONNRESET);
        CHECK(reason == "client: the broker ended the connection: the opener stops");
        fdbroker_completion completion{};
        completion.size = sizeof completion;
        CHECK(fdbroker_complete(client.get(), &completion, 1, -1) == -ECONNRESET);
        CHECK(fdbroker_submit(client.get(), requests.data(), 1) == -ECONNRESET);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("outstanding: files that nobody fetches are closed with the connection") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const auto asked = end.receive_requests();
            end.grant(asked.at(0));
            end.grant(asked.at(1));
            end.grant(end.receive_requests().at(0));
        }));
        const Client client = connect_to(broker);
        const std::array requests{tagged("/a", 0), tagged("/b", 1)};
        REQUIRE(fdbroker_submit(client.get(), requests.data(), requests.size()) == 2);
        const UniqueFd now(fdbroker_open(client.get(), "/now", O_RDONLY, 0));
        CHECK(now);
        CHECK(fdbroker_descriptor(client.get()) >= 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("outstanding: a child finds all of it closed") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.receive_requests(); }));
    const Client client = connect_to(broker);
    const int descriptor = fdbroker_descriptor(client.get());
    const fdbroker_request request = request_for("/a");
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        fdbroker_completion completion{};
        completion.size = sizeof completion;
        const bool closed = ::fcntl(descriptor, F_GETFD) == -1;
        ::_exit(closed && fdbroker_complete(client.get(), &completion, 1, -1) == -EBADF &&
                        fdbroker_submit(client.get(), &request, 1) == -EBADF &&
                        fdbroker_descriptor(client.get()) == -EBADF
                    ? 0
                    : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

}  // namespace fdbroker::test
