// SPDX-License-Identifier: MIT
// What a service manager says in the environment, and what it is told, without libsystemd on this side.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "opener/base/passed_sockets.hpp"
#include "opener/base/sd_notify.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using test::run_in_child;

namespace {

void pass(const char* fds, const char* names, pid_t to = ::getpid()) {
    ::setenv("LISTEN_PID", std::to_string(to).c_str(), 1);
    ::setenv("LISTEN_FDS", fds, 1);
    names != nullptr ? ::setenv("LISTEN_FDNAMES", names, 1) : ::unsetenv("LISTEN_FDNAMES");
}

// 3 and 4 are pipes' ends without close-on-exec, as after the exec of a service.
void open_passed_descriptors() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    for (const int number : {3, 4})
        if (ends[number - 3] != number) REQUIRE(::dup2(ends[number - 3], number) == number);
}

// A datagram socket of the name, whose first byte may be NUL.
proto::UniqueFd receiver(const std::string& name) {
    proto::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
    return socket;
}

std::string received(const proto::UniqueFd& socket) {
    char text[256];
    const ssize_t size = ::recv(socket.number(), text, sizeof text, 0);
    return size < 0 ? "nothing" : std::string(text, static_cast<std::size_t>(size));
}

}  // namespace

TEST_CASE("passed sockets: each comes with its name, close-on-exec, and only once") {
    run_in_child([] {
        open_passed_descriptors();
        pass("2", "default:control");
        const auto sockets = take_passed_sockets();
        REQUIRE(sockets);
        REQUIRE(sockets->size() == 2);
        CHECK((*sockets)[0].name == "default");
        CHECK((*sockets)[1].name == "control");
        CHECK((*sockets)[0].socket.number() == 3);
        CHECK((::fcntl(4, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(::getenv("LISTEN_PID") == nullptr);
        CHECK(::getenv("LISTEN_FDS") == nullptr);
        CHECK(::getenv("LISTEN_FDNAMES") == nullptr);
        CHECK(take_passed_sockets()->empty());
    });
}

TEST_CASE("passed sockets: without names each is called unknown") {
    run_in_child([] {
        open_passed_descriptors();
        pass("2", nullptr);
        const auto sockets = take_passed_sockets();
        REQUIRE(sockets);
        REQUIRE(sockets->size() == 2);
        CHECK((*sockets)[1].name == "unknown");
    });
}

TEST_CASE("passed sockets: those of another process are left alone") {
    run_in_child([] {
        open_passed_descriptors();
        pass("2", "a:b", ::getppid());
        CHECK(take_passed_sockets()->empty());
        CHECK((::fcntl(3, F_GETFD) & FD_CLOEXEC) == 0);
        pass("2", "a:b");
        ::unsetenv("LISTEN_PID");
        CHECK(take_passed_sockets()->empty());
    });
}

TEST_CASE("passed sockets: numbers and names that cannot be are errors") {
    struct {
        const char* fds;
        const char* names;
        int error;
    } const cases[] = {{"two", "a:b", EINVAL},      {"-1", "a", EINVAL},    {"", "", EINVAL},
                       {"2147483648", "a", EINVAL}, {"2", "a", EINVAL},     {"2", "a:b:c", EINVAL},
                       {"1 ", "a", EINVAL},         {"900", nullptr, EBADF}};
    for (const auto& one : cases) {
        INFO("LISTEN_FDS " << one.fds);
        run_in_child([&] {
            open_passed_descriptors();
            pass(one.fds, one.names);
            const auto sockets = take_passed_sockets();
            REQUIRE(!sockets);
            CHECK(sockets.error().errno_value == one.error);
        });
    }
    run_in_child([] {
        pass("0", nullptr);
        CHECK(take_passed_sockets()->empty());
    });
}

TEST_CASE("service manager: messages arrive by a path and by an abstract name") {
    const test::TempDir directory{test::TempDir::Place::var_tmp};
    const std::string path = directory / "notify";
    const std::string name = "fdb-notify-" + std::to_string(::getpid());
    run_in_child([&] {
        for (const auto& [bound, given] : {std::pair(path, path), std::pair('\0' + name, '@' + name)}) {
            const auto manager = receiver(bound);
            ::setenv("NOTIFY_SOCKET", given.c_str(), 1);
            service_manager_ready();
            CHECK(received(manager) == "READY=1");
            service_manager_reloading();
            CHECK(received(manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            service_manager_stopping();
            CHECK(received(manager) == "STOPPING=1");
        }
    });
}

TEST_CASE("service manager: without one, or at an address that is none, nothing happens") {
    run_in_child([] {
        ::unsetenv("NOTIFY_SOCKET");
        CHECK(!notify_service_manager("READY=1"));
        for (const std::string& address : {std::string(), std::string("vsock:2:1"), std::string("relative"),
                                           std::string("/no/such/socket"), '/' + std::string(200, 'x')}) {
            ::setenv("NOTIFY_SOCKET", address.c_str(), 1);
            CHECK(!notify_service_manager("READY=1"));
        }
    });
}

TEST_CASE("service manager: the watchdog's time is halved, and only for the process that it is for") {
    run_in_child([] {
        ::unsetenv("WATCHDOG_PID");
        for (const char* none : {"0", "-5", "soon", ""}) {
            ::setenv("WATCHDOG_USEC", none, 1);
            CHECK(!watchdog_interval());
        }
        ::setenv("WATCHDOG_USEC", "30000000", 1);
        CHECK(watchdog_interval() == std::chrono::seconds(15));
        ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
        CHECK(watchdog_interval() == std::chrono::seconds(15));
        ::setenv("WATCHDOG_PID", "1", 1);
        CHECK(!watchdog_interval());
    });
}
