// SPDX-License-Identifier: MIT
// Programs that use the library otherwise than they should: every mistake is an errno with a reason.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <csignal>
#include <string>
#include <vector>

#include "tests/unit/test_client_broker.hpp"

namespace fdbroker::test {
namespace {

using proto::UniqueFd;
using namespace std::string_literals;

std::atomic<int> signals = 0;

// SIGUSR1 interrupts system calls (no SA_RESTART) and is counted.
struct InterruptingSignal {
    InterruptingSignal() {
        struct sigaction action{};
        action.sa_handler = [](int) { ++signals; };
        REQUIRE(::sigaction(SIGUSR1, &action, &before_) == 0);
    }
    InterruptingSignal(const InterruptingSignal&) = delete;
    InterruptingSignal& operator=(const InterruptingSignal&) = delete;
    ~InterruptingSignal() { ::sigaction(SIGUSR1, &before_, nullptr); }
    // Signals the thread until the handler has run: a wait has been interrupted, or was about to begin.
    static void interrupt(pthread_t thread) {
        for (const int before = signals; signals < before + 20;) ::pthread_kill(thread, SIGUSR1);
    }

  private:
    struct sigaction before_{};
};

struct Idle {
    FakeBroker broker{after_hello([](BrokerEnd&) {})};
    Client client = connect_to(broker);
};

}  // namespace

TEST_CASE("misuse: a size that was never set is EINVAL, and nothing beyond the struct is read") {
    const Idle idle;
    fdbroker_handle* broker = idle.client.get();
    for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{4104},
                                   std::size_t{1} << 40, ~std::size_t{7}}) {
        CAPTURE(size);
        fdbroker_request request = request_for("/a");
        request.size = size;
        int fd = 0;
        CHECK(fdbroker_open_many(broker, &request, 1, &fd) == -EINVAL);
        CHECK(fdbroker_submit(broker, &request, 1) == -EINVAL);
        fdbroker_attributes attributes{};
        attributes.size = size;
        attributes.set = FDBROKER_SET_MODE;
        CHECK(fdbroker_setattr(broker, "/a", &attributes) == -EINVAL);
        fdbroker_completion completion{};
        completion.size = size;
        CHECK(fdbroker_complete(broker, &completion, 1, 0) == -EINVAL);
        CHECK(fdbroker_reason(broker) == "client: the size of a struct is that of no version"s);
    }
}

TEST_CASE("misuse: whatever many opens fail with, each descriptor is that errno") {
    const Idle idle;
    const auto fds_after = [&](fdbroker_request request, unsigned flags) {
        const std::array requests{request_for("/a"), request};
        std::array fds{0, 1};
        const int error =
            fdbroker_open_many_flags(idle.client.get(), requests.data(), requests.size(), fds.data(), flags);
        CHECK(error < 0);
        CHECK(fds == std::array{error, error});
        return error;
    };
    fdbroker_request misfit = request_for("/b");
    CHECK(fds_after(misfit, 8) == -EINVAL);
    misfit.size = 24;
    CHECK(fds_after(misfit, 0) == -EINVAL);
    std::vector<fdbroker_request> many(254, request_for("/a"));
    std::vector<int> fds(many.size(), 0);
    CHECK(fdbroker_open_many_flags(idle.client.get(), many.data(), many.size(), fds.data(),
                                   FDBROKER_ALL_OR_NOTHING) == -E2BIG);
    CHECK(fds == std::vector<int>(many.size(), -E2BIG));
}

TEST_CASE("misuse: the reason is that of this call, not of the one before") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.refuse(end.receive_requests().at(0), EACCES); }));
    const Client client = connect_to(broker);
    CHECK(fdbroker_open(client.get(), "/a", O_RDONLY, 0) == -EACCES);
    CHECK(fdbroker_reason(client.get()) == "decide: Permission denied"s);
    const auto reason_of = [&](long result) {
        CHECK(result < 0);
        return std::string(fdbroker_reason(client.get()));
    };
    fdbroker_handle* one = client.get();
    CHECK(reason_of(fdbroker_stat(one, "/a", 0, nullptr)) == "client: an argument is NULL");
    CHECK(reason_of(fdbroker_submit(one, nullptr, 1)) == "client: an argument is NULL");
    CHECK(reason_of(fdbroker_removexattr(one, "/a", "")) ==
          "client: the name of an attribute has 1 to 255 bytes");
    CHECK(reason_of(fdbroker_open_many_flags(one, nullptr, 0, nullptr, 8)) == "client: a flag that is none");
    fdbroker_attributes attributes{};
    attributes.size = sizeof attributes;
    CHECK(reason_of(fdbroker_setattr(one, "/a", &attributes)) == "client: nothing is set, or what is none");
    attributes.set = FDBROKER_SET_TIMES;
    attributes.access.tv_nsec = -1;
    CHECK(reason_of(fdbroker_setattr(one, "/a", &attributes)) == "client: a time that is none");
    fdbroker_request request = request_for("/a");
    request.call = FDBROKER_CALL_RENAME;
    CHECK(reason_of(fdbroker_submit(one, &request, 1)) ==
          "client: a second text is missing, or is not the call's");
    request.call = 2;
    CHECK(reason_of(fdbroker_submit(one, &request, 1)) == "client: a call that cannot be submitted");
    request.call = 0;
    request.timeout = -1;
    CHECK(reason_of(fdbroker_submit(one, &request, 1)) == "client: a negative timeout");
}

TEST_CASE("misuse: a second path that is too long is ENAMETOOLONG, and the connection goes on") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.grant(end.receive_requests().at(0)); }));
    const Client client = connect_to(broker);
    const std::string path(4096, 'p');
    CHECK(fdbroker_rename(client.get(), "/a", path.c_str(), 0) == -ENAMETOOLONG);
    CHECK(fdbroker_symlink(client.get(), path.c_str(), "/a") == -ENAMETOOLONG);
    const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
    CHECK(content_of(file.number()) == "/a");
    CHECK(broker.trouble() == "");
}

TEST_CASE(
    "misuse: files that are not fetched yet stay open when all but the connections' descriptors are closed") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        end.grant(end.receive_requests().at(0));
        end.receive();
    }));
    const std::string path = "/a";
    const int number = std::stoi(broker.address().substr(3));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        fdbroker_handle* handle = nullptr;
        const fdbroker_request request = request_for(path.c_str());
        fdbroker_completion done{};
        done.size = sizeof done;
        bool good = fdbroker_connect(&handle, ("fd:" + std::to_string(number)).c_str()) == 0 &&
                    fdbroker_submit(handle, &request, 1) == 1;
        // Answered, taken along by another call, and fetched only when the process is confined.
        fdbroker_set_timeout(handle, 1);
        pollfd waited{.fd = fdbroker_descriptor(handle), .events = POLLIN, .revents = 0};
        good = good && ::poll(&waited, 1, 60000) == 1 &&
               fdbroker_open(handle, "/b", O_RDONLY, 0) == -ETIMEDOUT &&
               fdbroker_confine(FDBROKER_CONFINE_DESCRIPTORS | FDBROKER_CONFINE_BEST_EFFORT) == 0 &&
               fdbroker_complete(handle, &done, 1, 0) == 1 && content_of(done.result) == path;
        ::_exit(good ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("misuse: signals end no call early, with a timeout or without, nor a wait for completions") {
    const InterruptingSignal signal;
    const pthread_t client_thread = ::pthread_self();
    FakeBroker broker(after_hello([client_thread](BrokerEnd& end) {
        for (int count = 0; count < 3; ++count) {
            const auto asked = end.receive_requests().at(0);
            InterruptingSignal::interrupt(client_thread);
            end.grant(asked);
        }
    }));
    const Client client = connect_to(broker);
    for (const int timeout : {-1, 60000}) {
        fdbroker_set_timeout(client.get(), timeout);
        const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
        CHECK(content_of(file.number()) == "/a");
    }
    const fdbroker_request request = request_for("/b");
    REQUIRE(fdbroker_submit(client.get(), &request, 1) == 1);
    fdbroker_completion done{};
    done.size = sizeof done;
    CHECK(fdbroker_complete(client.get(), &done, 1, 60000) == 1);
    const UniqueFd file(done.result);
    CHECK(content_of(file.number()) == "/b");
    CHECK(broker.trouble() == "");
}

TEST_CASE("misuse: with a timeout of 0 a call asks and does not wait") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        for (const Asked& asked : end.receive_requests()) end.grant(asked);
        for (const Asked& asked : end.receive_requests()) end.grant(asked);
    }));
    const Client client = connect_to(broker);
    REQUIRE(fdbroker_set_timeout(client.get(), 0) == 0);
    const int first = fdbroker_open(client.get(), "/a", O_RDONLY, 0);
    const UniqueFd closed(first);
    CHECK((first >= 0 || first == -ETIMEDOUT));
    REQUIRE(fdbroker_set_timeout(client.get(), 60000) == 0);
    const UniqueFd file(fdbroker_open(client.get(), "/b", O_RDONLY, 0));
    CHECK(content_of(file.number()) == "/b");
    CHECK(broker.trouble() == "");
}

TEST_CASE("misuse: an edge-triggered loop that fetches all there is misses nothing") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        for (int answered = 0; answered < 30;)
            for (const Asked& asked : end.receive_requests()) {
                end.grant(asked);
                ++answered;
            }
        end.receive();
    }));
    const Client client = connect_to(broker);
    const UniqueFd loop(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {}};
    REQUIRE(::epoll_ctl(loop.number(), EPOLL_CTL_ADD, fdbroker_descriptor(client.get()), &event) == 0);
    for (int round = 0; round < 10; ++round) {
        const std::vector<fdbroker_request> requests(3, request_for("/a"));
        REQUIRE(fdbroker_submit(client.get(), requests.data(), requests.size()) == 3);
        for (int fetched = 0; fetched < 3;) {
            REQUIRE(::epoll_wait(loop.number(), &event, 1, 60000) == 1);
            fdbroker_completion done{};
            done.size = sizeof done;
            for (; fdbroker_complete(client.get(), &done, 1, 0) == 1; done.size = sizeof done) {
                const UniqueFd file(done.result);
                CHECK(content_of(file.number()) == "/a");
                ++fetched;
            }
        }
    }
}

}  // namespace fdbroker::test
