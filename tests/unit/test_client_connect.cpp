// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "proto/address.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_client_broker.hpp"

namespace fdbroker::test {
namespace {

using proto::Address;
using proto::UniqueFd;

int connect_error(const char* address, unsigned flags = 0) {
    fdbroker_handle* handle = reinterpret_cast<fdbroker_handle*>(1);
    const int error = fdbroker_connect_flags(&handle, address, flags);
    if (error == 0)
        fdbroker_disconnect(handle);
    else
        CHECK(handle == nullptr);
    return error;
}

// Connects to a broker with that script and hands back what connecting returned.
int connect_error(FakeBroker::Script script) {
    const auto before = DescriptorTable::now();
    int error = 0;
    {
        FakeBroker broker(std::move(script));
        error = connect_error(broker.address().c_str());
        broker.client_end_is_taken();
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
    return error;
}

UniqueFd listener(const std::string& address) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto name = Address::parse(address)->socket_name();
    if (::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0 ||
        ::listen(socket.number(), 4) != 0)
        throw std::runtime_error("listen");
    return socket;
}

// Accepts one connection and answers hello, in a thread.
std::jthread serving(const UniqueFd& listening) {
    return std::jthread([number = listening.number()] {
        const auto end =
            std::make_unique<BrokerEnd>(UniqueFd(::accept4(number, nullptr, nullptr, SOCK_CLOEXEC)));
        try {
            end->answer_hello();
        } catch (const std::exception&) {
            // The client has hung up, as it is to where the listener's owner is wrong.
        }
    });
}

// The environment as it was, at the end of the test.
class Environment {
  public:
    explicit Environment(const char* name) : name_(name) {
        if (const char* value = std::getenv(name)) before_ = value;
    }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    ~Environment() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
    void set(const std::string& value) { ::setenv(name_, value.c_str(), 1); }
    void unset() { ::unsetenv(name_); }

  private:
    const char* name_;
    std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("connect: a listener that answers hello with anything but a hello_reply is no broker") {
    const UniqueFd file = memory_file("x");
    std::array<std::byte, 256> room{};
    const std::span<std::byte> buffer(room);
    CHECK(connect_error([](BrokerEnd& end) { end.answer_hello(); }) == 0);
    CHECK(connect_error([](BrokerEnd& end) { end.receive(); }) == -ECONNRESET);
    CHECK(connect_error([](BrokerEnd& end) { end.hang_up(); }) == -ECONNRESET);
    const auto sending = [&](std::size_t size, std::size_t descriptors) {
        return [bytes = Bytes(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(size)),
                descriptors, &file](BrokerEnd& end) {
            end.receive();
            end.send(bytes, std::vector<proto::BorrowedFd>(descriptors, file.borrow()));
        };
    };
    const std::size_t size = proto::write_hello_reply(buffer, {.calls = 1});
    CHECK(connect_error(sending(size, 0)) == 0);
    CHECK(connect_error(sending(size, 1)) == -EPROTO);
    CHECK(connect_error(sending(size - 1, 0)) == -EPROTO);
    buffer[0] = std::byte{2};
    CHECK(connect_error(sending(size, 0)) == -EPROTONOSUPPORT);
    CHECK(connect_error(sending(proto::write_hello_reply(buffer, {.calls = 0}), 0)) == -EPROTONOSUPPORT);
    CHECK(connect_error(sending(proto::write_hello(buffer), 0)) == -EPROTO);
    CHECK(connect_error(sending(proto::write_end(buffer, 1, "cut") - 4, 0)) == -EPROTO);
}

TEST_CASE("connect: a broker that refuses the connection says why") {
    CHECK(connect_error([](BrokerEnd& end) {
              end.receive();
              end.send_end(EUSERS, "too many connections");
          }) == -EUSERS);
}

TEST_CASE("connect: a broker that refuses and closes before it reads hello says why, whoever is faster") {
    std::array<std::byte, 256> buffer;
    const std::size_t size = proto::write_end(buffer, EMFILE, "too many connections");
    // Closed with hello unread, and closed before hello is sent.
    for (const bool hello_first : {true, false}) {
        CAPTURE(hello_first);
        for (int round = 0; round < 20; ++round) {
            std::array<int, 2> ends{};
            REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
            UniqueFd broker(ends[1]);
            const auto refuse = [&] {
                pollfd hello{broker.number(), POLLIN, 0};
                if (hello_first) ::poll(&hello, 1, -1);
                static_cast<void>(
                    proto::send(broker.borrow(), std::span(buffer).first(size), {}, proto::Wait::block));
                broker.reset();
            };
            std::jthread thread;
            if (hello_first) {
                thread = std::jthread(refuse);
            } else {
                refuse();
            }
            CHECK(connect_error(("fd:" + std::to_string(ends[0])).c_str()) == -EMFILE);
        }
    }
}

TEST_CASE("connection: a request that the broker does not take any more gets the reason that it gave") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.send_end(ETIMEDOUT, "silent for too long"); }));
    const Client client = connect_to(broker);
    CHECK(broker.trouble() == "");
    CHECK(fdbroker_open(client.get(), "/a", O_RDONLY, 0) == -ECONNRESET);
    CHECK(std::string(fdbroker_reason(client.get())).find("silent for too long") != std::string::npos);
}

TEST_CASE("connect: an invalid address and an address without a listener have different errors") {
    const TempDir directory;
    const std::string path = directory / "socket";
    CHECK(connect_error("") == -EINVAL);
    CHECK(connect_error("fd:x") == -EINVAL);
    CHECK(connect_error(std::string(200, 'x').c_str()) == -ENAMETOOLONG);
    CHECK(connect_error(path.c_str()) == -ENOENT);
    {
        const UniqueFd gone = listener(path);
    }
    CHECK(connect_error(path.c_str()) == -ECONNREFUSED);
    CHECK(connect_error(path.c_str(), 2) == -EINVAL);
    CHECK(connect_error(path.c_str(), ~0u) == -EINVAL);
}

TEST_CASE("connect: an inherited socket belongs to one connection only") {
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.grant(end.receive_requests().at(0)); }));
    const std::string address = broker.address();
    const Client client = connect_to(broker);
    CHECK(connect_error(address.c_str()) == -EBUSY);
    const UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
    CHECK(file);
}

TEST_CASE("connect: the environment names the broker, FDBROKER_SOCKET before FDBROKER_FD") {
    const TempDir directory;
    Environment socket_name("FDBROKER_SOCKET");
    Environment descriptor("FDBROKER_FD");
    socket_name.set(directory / "nobody");
    descriptor.set("x");
    CHECK(connect_error(nullptr) == -ENOENT);
    socket_name.unset();
    CHECK(connect_error(nullptr) == -EINVAL);
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    descriptor.set(broker.address().substr(3));
    CHECK(connect_error(nullptr) == 0);
    broker.client_end_is_taken();
}

TEST_CASE("connect: a listener that is not root's is refused unless any owner will do") {
    FDBROKER_SKIP_UNLESS(has_pidfds(), "needs pidfd_open, to become somebody else");
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const TempDir directory(0777);
    const auto before = DescriptorTable::now();
    for (const std::string& address :
         {(directory / "socket").string(), "@" + (directory / "name").string()}) {
        CAPTURE(address);
        run_as(some_user, [&address] {
            const UniqueFd listening = listener(address);
            for (const unsigned flags : {0u, FDBROKER_ANY_OWNER}) {
                const std::jthread thread = serving(listening);
                CHECK(connect_error(address.c_str(), flags) == (flags == 0 ? -EPERM : 0));
            }
        });
        ::unlink(address.c_str());
        const UniqueFd listening = listener(address);
        const std::jthread thread = serving(listening);
        CHECK(connect_error(address.c_str()) == 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

}  // namespace fdbroker::test
