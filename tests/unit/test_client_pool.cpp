// SPDX-License-Identifier: MIT
// Connections in threads and in forked children: one that is used is refused to others, and a pool is shared.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/unit/test_client_broker.hpp"

namespace fdbroker::test {
namespace {

using proto::UniqueFd;
using namespace std::string_literals;

constexpr unsigned any_owner = FDBROKER_ANY_OWNER;

// Listens at a path, and grants on every connection what is asked for: a file that holds its path.
class ManyBroker {
  public:
    ManyBroker() {
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        address().copy(name.sun_path, sizeof name.sun_path - 1);
        if (::bind(listener_.number(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
            ::listen(listener_.number(), 64) != 0)
            throw std::runtime_error("listen");
        acceptor_ = std::jthread([this] { accept(); });
    }
    ~ManyBroker() {
        ::shutdown(listener_.number(), SHUT_RDWR);
        acceptor_.join();
    }
    ManyBroker(const ManyBroker&) = delete;
    ManyBroker& operator=(const ManyBroker&) = delete;

    std::string address() const { return (directory_.path() / "socket").string(); }
    unsigned accepted() const { return accepted_.load(); }
    // The broker's ends of all connections are closed, as when it ends.
    void hang_up() {
        const std::scoped_lock lock(mutex_);
        for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    }

  private:
    void accept() {
        std::vector<std::jthread> served;
        for (;;) {
            UniqueFd socket(::accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!socket) return;
            ++accepted_;
            {
                const std::scoped_lock lock(mutex_);
                sockets_.push_back(socket.number());
            }
            served.emplace_back([end = std::make_unique<BrokerEnd>(std::move(socket))] {
                try {
                    end->answer_hello();
                    for (;;)
                        for (const Asked& asked : end->receive_requests()) end->grant(asked);
                } catch (const std::exception&) {
                    // The client has hung up.
                }
            });
        }
    }

    TempDir directory_{};
    UniqueFd listener_{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    std::atomic<unsigned> accepted_ = 0;
    std::mutex mutex_;
    std::vector<int> sockets_;
    std::jthread acceptor_;
};

struct FreePool {
    void operator()(fdbroker_pool* pool) const { fdbroker_pool_free(pool); }
};
using Pool = std::unique_ptr<fdbroker_pool, FreePool>;

Pool pool_of(const ManyBroker& broker, unsigned count) {
    Pool pool(fdbroker_pool_new_flags(broker.address().c_str(), count, any_owner));
    REQUIRE(pool != nullptr);
    return pool;
}

std::string read(fdbroker_handle* broker, const std::string& path) {
    const UniqueFd file(fdbroker_open(broker, path.c_str(), O_RDONLY, 0));
    return file ? content_of(file.number()) : "nothing";
}

// Takes a connection, asks, puts it back; 0 when all went as it should.
int use(fdbroker_pool* pool, const std::string& path) {
    fdbroker_handle* broker = nullptr;
    if (fdbroker_pool_get(pool, &broker, -1) != 0) return 1;
    if (read(broker, path) != path) return 2;
    return fdbroker_pool_put(pool, broker) == 0 ? 0 : 3;
}

int exit_status(pid_t child) {
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_CASE("threads: a call on a connection that another thread is in a call on is EBUSY") {
    std::promise<void> asked;
    std::promise<void> go_on;
    FakeBroker broker([&](BrokerEnd& end) {
        end.answer_hello();
        const auto first = end.receive_requests().at(0);
        asked.set_value();
        go_on.get_future().wait();
        end.grant(first);
        end.grant(end.receive_requests().at(0));
    });
    const Client client = connect_to(broker);
    std::string content;
    std::jthread other([&] { content = read(client.get(), "/a"); });
    asked.get_future().wait();
    struct statx status{};
    fdbroker_completion completion{};
    completion.size = sizeof completion;
    const fdbroker_request request = request_for("/b");
    CHECK(fdbroker_open(client.get(), "/b", O_RDONLY, 0) == -EBUSY);
    CHECK(fdbroker_stat(client.get(), "/b", 0, &status) == -EBUSY);
    CHECK(fdbroker_stat(client.get(), "/b", 0, nullptr) == -EBUSY);
    CHECK(fdbroker_submit(client.get(), &request, 1) == -EBUSY);
    CHECK(fdbroker_complete(client.get(), &completion, 1, 0) == -EBUSY);
    CHECK(fdbroker_descriptor(client.get()) == -EBUSY);
    CHECK(fdbroker_set_timeout(client.get(), 1) == -EBUSY);
    CHECK(fdbroker_reason(client.get()) == "client: another thread is using the connection"s);
    go_on.set_value();
    other.join();
    CHECK(content == "/a");
    CHECK(fdbroker_reason(client.get()) == "client: another thread is using the connection"s);
    CHECK(read(client.get(), "/b") == "/b");
    CHECK(fdbroker_reason(client.get()) == ""s);
    CHECK(broker.trouble() == "");
}

TEST_CASE("pool: each thread has a private connection, and nobody connects again") {
    const auto before = DescriptorTable::now();
    {
        const ManyBroker broker;
        const Pool pool = pool_of(broker, 4);
        std::atomic<int> wrong = 0;
        {
            std::vector<std::jthread> threads;
            for (int thread = 0; thread < 8; ++thread)
                threads.emplace_back([&, thread] {
                    for (int round = 0; round < 100; ++round)
                        if (use(pool.get(), "/" + std::to_string(thread * 1000 + round)) != 0) ++wrong;
                });
        }
        CHECK(wrong == 0);
        CHECK(broker.accepted() == 4);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("pool: a connection that is taken is nobody else's, and waiting for one ends at the timeout") {
    const ManyBroker broker;
    const Pool pool = pool_of(broker, 2);
    std::array<fdbroker_handle*, 3> taken{};
    REQUIRE(fdbroker_pool_get(pool.get(), &taken[0], 0) == 0);
    REQUIRE(fdbroker_pool_get(pool.get(), &taken[1], 0) == 0);
    CHECK(taken[0] != taken[1]);
    CHECK(fdbroker_pool_get(pool.get(), &taken[2], 0) == -ETIMEDOUT);
    CHECK(fdbroker_pool_get(pool.get(), &taken[2], 1) == -ETIMEDOUT);
    CHECK(taken[2] == nullptr);
    std::jthread([&] { CHECK(fdbroker_pool_put(pool.get(), taken[0]) == -EPERM); }).join();
    std::jthread waiting([&] { CHECK(use(pool.get(), "/a") == 0); });
    CHECK(fdbroker_pool_put(pool.get(), taken[0]) == 0);
    waiting.join();
    CHECK(fdbroker_pool_put(pool.get(), taken[1]) == 0);
    CHECK(fdbroker_pool_put(pool.get(), taken[1]) == -EPERM);
    const Client other([&] {
        fdbroker_handle* made = nullptr;
        REQUIRE(fdbroker_connect_flags(&made, broker.address().c_str(), any_owner) == 0);
        return made;
    }());
    CHECK(fdbroker_pool_put(pool.get(), other.get()) == -EINVAL);
}

TEST_CASE("pool: a thread that ends with a connection gives it back") {
    const ManyBroker broker;
    const Pool pool = pool_of(broker, 1);
    std::jthread([&] {
        fdbroker_handle* taken = nullptr;
        CHECK(fdbroker_pool_get(pool.get(), &taken, 0) == 0);
    }).join();
    CHECK(use(pool.get(), "/a") == 0);
}

TEST_CASE("pool: children go on with the connections, and a killed one gives its back") {
    const ManyBroker broker;
    const Pool pool = pool_of(broker, 2);
    REQUIRE(use(pool.get(), "/before") == 0);
    std::vector<pid_t> children;
    for (int number = 0; number < 6; ++number) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            for (int round = 0; round < 50; ++round)
                if (const int wrong = use(pool.get(), "/" + std::to_string(number * 100 + round)); wrong != 0)
                    ::_exit(wrong);
            // Half of them end with a connection in hand.
            fdbroker_handle* kept = nullptr;
            if (number % 2 == 0 && fdbroker_pool_get(pool.get(), &kept, -1) != 0) ::_exit(9);
            if (number == 0) ::raise(SIGKILL);
            ::_exit(0);
        }
        children.push_back(child);
    }
    for (std::size_t number = 0; number < children.size(); ++number)
        CHECK(exit_status(children[number]) == (number == 0 ? -SIGKILL : 0));
    for (int round = 0; round < 4; ++round) CHECK(use(pool.get(), "/after") == 0);
    CHECK(broker.accepted() == 2);
}

TEST_CASE("pool: an answer that a killed child did not wait for is nobody's") {
    const ManyBroker broker;
    const Pool pool = pool_of(broker, 1);
    for (int round = 0; round < 20; ++round) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            fdbroker_handle* taken = nullptr;
            if (fdbroker_pool_get(pool.get(), &taken, -1) != 0) ::_exit(1);
            const fdbroker_request request = request_for("/lost");
            if (fdbroker_submit(taken, &request, 1) != 1) ::_exit(2);
            ::raise(SIGKILL);
        }
        CHECK(exit_status(child) == -SIGKILL);
        CHECK(use(pool.get(), "/mine") == 0);
    }
}

TEST_CASE("pool: in a child the parent's connection is EBADF, and cannot be put back") {
    const ManyBroker broker;
    const Pool pool = pool_of(broker, 2);
    fdbroker_handle* taken = nullptr;
    REQUIRE(fdbroker_pool_get(pool.get(), &taken, 0) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (fdbroker_open(taken, "/a", O_RDONLY, 0) != -EBADF) ::_exit(1);
        if (fdbroker_pool_put(pool.get(), taken) != -EINVAL) ::_exit(2);
        ::_exit(use(pool.get(), "/child"));
    }
    CHECK(exit_status(child) == 0);
    CHECK(read(taken, "/parent") == "/parent");
    CHECK(fdbroker_pool_put(pool.get(), taken) == 0);
}

TEST_CASE("pool: children of a confined process go on, and closing all other descriptors spares the pool") {
    const ManyBroker broker;
    const pid_t first = ::fork();
    REQUIRE(first >= 0);
    if (first == 0) {
        auto* pool = fdbroker_pool_new_flags(broker.address().c_str(), 2, any_owner);
        if (pool == nullptr) ::_exit(20);
        const pid_t unconfined = ::fork();
        // The child has no handle yet.
        if (unconfined == 0) {
            if (fdbroker_confine(FDBROKER_CONFINE_BEST_EFFORT | FDBROKER_CONFINE_DESCRIPTORS) != 0)
                ::_exit(21);
            const pid_t second = ::fork();
            if (second == 0) ::_exit(use(pool, "/confined"));
            ::_exit(exit_status(second));
        }
        ::_exit(exit_status(unconfined));
    }
    CHECK(exit_status(first) == 0);
}

TEST_CASE("pool: a connection that is over is made anew before confinement") {
    ManyBroker broker;
    const Pool pool = pool_of(broker, 1);
    broker.hang_up();
    fdbroker_handle* taken = nullptr;
    REQUIRE(fdbroker_pool_get(pool.get(), &taken, 0) == 0);
    CHECK(fdbroker_open(taken, "/a", O_RDONLY, 0) == -ECONNRESET);
    REQUIRE(fdbroker_pool_put(pool.get(), taken) == 0);
    CHECK(use(pool.get(), "/anew") == 0);
    CHECK(broker.accepted() == 2);
}

TEST_CASE("pool: counts and addresses that are none make none") {
    for (const unsigned count : {0u, 1025u, ~0u}) {
        errno = 0;
        CHECK(fdbroker_pool_new("/nonexistent/socket", count) == nullptr);
        CHECK(errno == EINVAL);
    }
    CHECK(fdbroker_pool_new("/nonexistent/socket", 1) == nullptr);
    CHECK(errno == ENOENT);
    fdbroker_pool_free(nullptr);
    fdbroker_handle* taken = nullptr;
    CHECK(fdbroker_pool_get(nullptr, &taken, 0) == -EFAULT);
    CHECK(fdbroker_pool_put(nullptr, taken) == -EFAULT);
}

TEST_CASE("connect: the reason says in words why it failed, and is empty when it did not") {
    const ManyBroker broker;
    std::array<char, 400> reason{};
    fdbroker_handle* made = nullptr;
    const auto why = [&](const std::string& address, unsigned flags = 0) {
        CHECK(fdbroker_connect_reason(&made, address.c_str(), flags, reason.data(), reason.size()) < 0);
        CHECK(made == nullptr);
        return std::string(reason.data());
    };
    CHECK(why("/nonexistent/socket") ==
          "client: /nonexistent/socket: there is no socket of that name: does the opener run?");
    CHECK(why("fd:x") == "client: fd:x: the address is none");
    CHECK(why("fd:999") == "client: fd:999: the descriptor is no connected SOCK_SEQPACKET socket");
    CHECK(why(broker.address(), 8).ends_with("a flag that is none"));
    if (::getuid() != 0) CHECK(why(broker.address()).contains("listens there, not root"));
    REQUIRE(fdbroker_connect_reason(&made, broker.address().c_str(), any_owner, reason.data(),
                                    reason.size()) == 0);
    CHECK(reason.front() == '\0');
    fdbroker_disconnect(made);
    CHECK(fdbroker_connect_reason(&made, "fd:x", 0, reason.data(), 8) == -EINVAL);
    CHECK(std::string(reason.data()) == "client:");
    CHECK(fdbroker_connect_reason(&made, "fd:x", 0, nullptr, 0) == -EINVAL);
}

TEST_CASE("connect: a broker that ends the connection at once gives the reason") {
    FakeBroker broker([](BrokerEnd& end) {
        end.receive();
        end.send_end(EUSERS, "too many connections");
    });
    std::array<char, 400> reason{};
    fdbroker_handle* made = nullptr;
    const std::string address = broker.address();
    broker.client_end_is_taken();
    CHECK(fdbroker_connect_reason(&made, address.c_str(), 0, reason.data(), reason.size()) == -EUSERS);
    CHECK(std::string(reason.data()).ends_with("the broker ended the connection: too many connections"));
}

TEST_CASE("connect: a connection that is over, or the parent's, is made anew to the same address") {
    const auto before = DescriptorTable::now();
    {
        ManyBroker broker;
        fdbroker_handle* made = nullptr;
        REQUIRE(fdbroker_connect_flags(&made, broker.address().c_str(), any_owner) == 0);
        const Client client(made);
        broker.hang_up();
        CHECK(fdbroker_open(made, "/a", O_RDONLY, 0) == -ECONNRESET);
        REQUIRE(fdbroker_reconnect(made) == 0);
        CHECK(read(made, "/a") == "/a");
        REQUIRE(fdbroker_reconnect(made) == 0);
        CHECK(read(made, "/b") == "/b");
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            if (fdbroker_open(made, "/c", O_RDONLY, 0) != -EBADF) ::_exit(1);
            if (fdbroker_reconnect(made) != 0) ::_exit(2);
            ::_exit(read(made, "/c") == "/c" ? 0 : 3);
        }
        CHECK(exit_status(child) == 0);
        FakeBroker inherited(after_hello([](BrokerEnd&) {}));
        const Client other = connect_to(inherited);
        CHECK(fdbroker_reconnect(other.get()) == -EOPNOTSUPP);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

}  // namespace fdbroker::test
