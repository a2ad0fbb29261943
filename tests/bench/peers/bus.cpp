// SPDX-License-Identifier: MIT
// D-Bus as a broker: a method that takes a path and returns a descriptor.
#include "tests/bench/peers/brokers.hpp"

#ifdef FDBROKER_HAVE_SD_BUS
#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "proto/unique_fd.hpp"
#include "tests/bench/peers/forked_server.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::bench {

namespace {

constexpr const char* service = "org.fdbroker.Bench";

struct UnreferBus {
    void operator()(sd_bus* bus) const { sd_bus_flush_close_unref(bus); }
};
using Bus = std::unique_ptr<sd_bus, UnreferBus>;

int check(int result, const char* what) {
    if (result < 0) throw std::system_error(-result, std::generic_category(), what);
    return result;
}

Bus new_bus() {
    sd_bus* bus = nullptr;
    check(sd_bus_new(&bus), "sd_bus_new");
    check(sd_bus_negotiate_fds(bus, 1), "sd_bus_negotiate_fds");
    return Bus(bus);
}

// Method Open(s) → h.
int answer_open(sd_bus_message* call, void*, sd_bus_error*) {
    const char* path = nullptr;
    if (const int error = sd_bus_message_read(call, "s", &path); error < 0) return error;
    const proto::UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
    if (!file) return -errno;
    const int error = sd_bus_reply_method_return(call, "h", file.number());
    return error < 0 ? error : 1;
}

[[noreturn]] void serve(sd_bus* bus) {
    check(sd_bus_add_object(bus, nullptr, "/", answer_open, nullptr), "sd_bus_add_object");
    while (true) {
        if (check(sd_bus_process(bus, nullptr), "sd_bus_process") == 0) {
            check(sd_bus_wait(bus, UINT64_MAX), "sd_bus_wait");
        }
    }
}

void call_open(sd_bus* bus, const char* destination, const char* path) {
    sd_bus_message* reply = nullptr;
    check(sd_bus_call_method(bus, destination, "/", service, "Open", nullptr, &reply, "s", path), "Open");
    const std::unique_ptr<sd_bus_message, decltype(&sd_bus_message_unref)> owned(reply, sd_bus_message_unref);
    int file = -1;  // the message's
    check(sd_bus_message_read(reply, "h", &file), "a descriptor");
}

// A bus with the given address, as a client of the daemon.
Bus connected(const std::string& address) {
    Bus bus = new_bus();
    check(sd_bus_set_address(bus.get(), address.c_str()), "sd_bus_set_address");
    check(sd_bus_set_bus_client(bus.get(), 1), "sd_bus_set_bus_client");
    check(sd_bus_start(bus.get()), "sd_bus_start");
    return bus;
}

constexpr const char* configuration = R"(<busconfig>
  <type>session</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
)";

std::string configuration_for(const std::string& socket) {
    std::string text = configuration;
    return text.replace(text.find("{}"), 2, socket);
}

}  // namespace

std::optional<Peer> bus_to_peer() {
    const auto server = std::make_shared<ForkedServer>(SOCK_STREAM, [](int socket) {
        const Bus bus = new_bus();
        check(sd_bus_set_fd(bus.get(), socket, socket), "sd_bus_set_fd");
        sd_id128_t id{};
        check(sd_bus_set_server(bus.get(), 1, id), "sd_bus_set_server");
        check(sd_bus_start(bus.get()), "sd_bus_start");
        serve(bus.get());
    });
    const std::shared_ptr<sd_bus> bus = new_bus();
    check(sd_bus_set_fd(bus.get(), server->socket(), server->socket()), "sd_bus_set_fd");
    check(sd_bus_start(bus.get()), "sd_bus_start");
    return Peer{"sd-bus, peer to peer",
                [server, bus](const char* path) { call_open(bus.get(), nullptr, path); }};
}

std::optional<Peer> bus_through_daemon(const std::string& directory) {
    const std::string socket = directory + "/bus";
    const std::string file = directory + "/bus.conf";
    test::write_file(file, configuration_for(socket));
    const auto daemon = std::make_shared<test::Process>(
        test::Process::start({.arguments = {"dbus-daemon", "--nofork", "--config-file=" + file}}));
    const std::string address = "unix:path=" + socket;
    wait_until("dbus-daemon", [&] {
        try {
            (void)connected(address);
            return true;
        } catch (const std::system_error&) {
            return false;
        }
    });
    const auto server = std::make_shared<ForkedServer>(SOCK_STREAM, [&](int) {
        const Bus bus = connected(address);
        check(sd_bus_request_name(bus.get(), service, 0), "sd_bus_request_name");
        serve(bus.get());
    });
    const std::shared_ptr<sd_bus> bus = connected(address);
    wait_until("the service", [&] { return sd_bus_get_name_creds(bus.get(), service, 0, nullptr) >= 0; });
    return Peer{"sd-bus through dbus-daemon",
                [daemon, server, bus](const char* path) { call_open(bus.get(), service, path); }};
}

}  // namespace fdbroker::bench
#else
namespace fdbroker::bench {

std::optional<Peer> bus_to_peer() {
    return std::nullopt;
}

std::optional<Peer> bus_through_daemon(const std::string&) {
    return std::nullopt;
}

}  // namespace fdbroker::bench
#endif
