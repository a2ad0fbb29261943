// SPDX-License-Identifier: MIT
// What systemd and the opener have to say to each other: sockets passed, readiness, the watchdog.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "proto/address.hpp"
#include "tests/integration/control_peer.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = directory / "data/secret";

    explicit Fixture(const std::string& role = "") {
        make_directory(directory / "data");
        write_file(file, "secret", {.mode = 0600});
        write_file(directory / "policy.yaml",
                   "version: 1\n" + (role.empty() ? "" : "roles:\n  these: {sockets: [" + role + "]}\n") +
                       "rules:\n  - name: data\n" + (role.empty() ? "" : "    roles: [these]\n") +
                       "    allow: [read]\n    paths: [\"" + (directory / "data").string() + "/**\"]\n");
    }
};

// The socket of a service manager; receives whole messages.
class NotifySocket {
  public:
    explicit NotifySocket(const std::filesystem::path& path)
        : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        const auto name = proto::Address::parse(path.string())->socket_name();
        REQUIRE(::bind(socket_.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
    }
    std::string next() {
        wait_readable(socket_.borrow());
        std::string message(4096, '\0');
        const ssize_t size = ::recv(socket_.number(), message.data(), message.size(), 0);
        message.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        return message;
    }
    // Whether a message comes within that time.
    bool waits(std::chrono::milliseconds time = {}) {
        pollfd event{socket_.number(), POLLIN, 0};
        return ::poll(&event, 1, static_cast<int>(time.count())) == 1;
    }
    void wait_for(const std::string& wanted) {
        while (next().find(wanted) == std::string::npos) {
        }
    }

  private:
    proto::UniqueFd socket_;
};

bool has_socket_activate() {
    return ::access("/usr/bin/systemd-socket-activate", X_OK) == 0;
}

}  // namespace

TEST_CASE("systemd: sockets that it passes are served under their names") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(has_socket_activate(), "needs systemd-socket-activate");
    const Fixture fixture("second");
    const std::string first = fixture.directory / "first.sock", second = fixture.directory / "second.sock";
    Process process = Process::start(
        {.arguments = {"/usr/bin/systemd-socket-activate", "--seqpacket", "-l", first, "-l", second,
                       "--fdname=first:second", opener_program(), "--control", "none", "--policy",
                       fixture.directory / "policy.yaml", "--audit", fixture.directory / "audit.jsonl"}});
    process.wait_for_error("Listening on " + second);
    TestPeer of_second(second), of_first(first);
    CHECK(of_second.open(fixture.file).status == 0);
    CHECK(of_first.open(fixture.file).status == EACCES);
    process.wait_for_error("systemd:second");
    process.signal(SIGTERM);
    CHECK(process.wait().status == 0);
    CHECK(std::filesystem::exists(first));  // systemd's to remove
    CHECK(read_file(fixture.directory / "audit.jsonl").find("\"listener\":\"second\"") != std::string::npos);
}

TEST_CASE(
    "systemd: the socket called control that it passes is for control, unless the command line names one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml",
               "version: 1\nrules: [{name: data, allow: [read], paths: [\"" + fixture.file + "\"]}]\n");
    const auto listening = [&](const char* name, int type) {
        proto::UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
        const auto path = proto::Address::parse((fixture.directory / name).string())->socket_name();
        REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&path.address), path.size) == 0);
        REQUIRE(::listen(socket.number(), 8) == 0);
        return socket;
    };
    const auto control = listening("passed-control.sock", SOCK_STREAM);
    const auto requests = listening("passed.sock", SOCK_SEQPACKET);
    // sd_listen_fds(3) wants its own pid, which only a shell in its place can tell.
    const auto start = [&](const std::string& more) {
        return Process::start(
            {.arguments = {"/bin/sh", "-c",
                           "LISTEN_PID=$$ exec " + opener_program() + " --policy " +
                               (fixture.directory / "policy.yaml").string() + " --audit none " + more},
             .environment = {{"LISTEN_FDS", "2"}, {"LISTEN_FDNAMES", "default:control"}},
             .descriptors = {{3, requests.borrow()}, {4, control.borrow()}}});
    };
    {
        Process process = start("");
        process.wait_for_error("controlled at systemd:control");
        CHECK(ControlPeer(fixture.directory / "passed-control.sock").ask("echo hello") == "hello");
        CHECK(TestPeer(fixture.directory / "passed.sock").open(fixture.file).status == 0);
        process.signal(SIGTERM);
        CHECK(process.wait().status == 0);
    }
    const std::string own = fixture.directory / "own.sock";
    Process process = start("--control " + own);
    process.wait_for_error("controlled at " + own);
    CHECK(ControlPeer(own).ask("echo hello") == "hello");
    CHECK(TestPeer(fixture.directory / "passed.sock").open(fixture.file).status == 0);
    process.signal(SIGTERM);
    CHECK(process.wait().status == 0);
}

TEST_CASE("systemd: readiness, reloads and the end are notified") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    NotifySocket notify(fixture.directory / "notify");
    Process process = Process::start({.arguments = RunningOpener::arguments(fixture.directory, {}),
                                      .environment = {{"NOTIFY_SOCKET", fixture.directory / "notify"}}});
    CHECK(notify.next().find("READY=1") != std::string::npos);
    CHECK(TestPeer(fixture.directory / "opener.sock").open(fixture.file).status == 0);
    process.signal(SIGHUP);
    const std::string reloading = notify.next();
    CHECK(reloading.find("RELOADING=1") != std::string::npos);
    CHECK(reloading.find("MONOTONIC_USEC=") != std::string::npos);
    CHECK(notify.next().find("READY=1") != std::string::npos);
    // A reload that fails is over as well.
    write_file(fixture.directory / "policy.yaml", "nonsense");
    process.signal(SIGHUP);
    CHECK(notify.next().find("RELOADING=1") != std::string::npos);
    CHECK(notify.next().find("READY=1") != std::string::npos);
    process.signal(SIGTERM);
    CHECK(notify.next().find("STOPPING=1") != std::string::npos);
    CHECK(process.wait().status == 0);
}

TEST_CASE("systemd: the watchdog is fed while the broker's loop turns, and only then") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    NotifySocket notify(fixture.directory / "notify");
    Process process = Process::start(
        {.arguments = RunningOpener::arguments(fixture.directory, {}),
         .environment = {{"NOTIFY_SOCKET", fixture.directory / "notify"}, {"WATCHDOG_USEC", "40000"}}});
    for (int i = 0; i < 3; ++i) notify.wait_for("WATCHDOG=1");
    // A broker that stands still: what was under way arrives, then nothing until it goes on.
    const pid_t broker = newest_broker(process.pid());
    REQUIRE(::kill(broker, SIGSTOP) == 0);
    wait_until_stopped(broker);
    while (notify.waits()) notify.next();
    const auto stopped_for = std::chrono::milliseconds(200);  // ten intervals in which it must not be fed
    CHECK(!notify.waits(stopped_for));
    REQUIRE(::kill(broker, SIGCONT) == 0);
    notify.wait_for("WATCHDOG=1");
    process.signal(SIGTERM);
    CHECK(process.wait().status == 0);
}
