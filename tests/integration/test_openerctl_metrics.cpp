// SPDX-License-Identifier: MIT
// `openerctl metrics --listen`, who may ask for metrics, and what they say of reloads, confinement and processes.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <csignal>

#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* small_policy =
    "version: 1\nrules: [{name: r, allow: [read], paths: [/usr/lib/os-release]}]\n";

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

Outcome openerctl(const TempDir& directory, std::vector<std::string> arguments,
                  std::optional<Identity> who = {}) {
    arguments.insert(arguments.begin(), {openerctl_program(), "--control", directory / "control.sock"});
    return run({.arguments = std::move(arguments), .identity = std::move(who)});
}

// A TCP socket on a port of 127.0.0.1 that the kernel chooses, listening.
class Scraped {
  public:
    Scraped() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(listener_.number(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0);
        REQUIRE(::listen(listener_.number(), 16) == 0);
        socklen_t size = sizeof address_;
        REQUIRE(::getsockname(listener_.number(), reinterpret_cast<sockaddr*>(&address_), &size) == 0);
    }
    proto::BorrowedFd listener() const { return listener_.borrow(); }
    std::string address() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

    // The whole answer to a request; the connection is closed after it.
    std::string ask(const std::string& method, const std::string& target,
                    const std::string& body = "") const {
        const proto::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::connect(socket.number(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) ==
                0);
        const std::string length =
            body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n";
        const std::string text = method + " " + target +
                                 " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + length + "\r\n" +
                                 body;
        REQUIRE(::send(socket.number(), text.data(), text.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(text.size()));
        std::string answer;
        for (char block[4096];;) {
            wait_readable(socket.borrow());
            const ssize_t size = ::recv(socket.number(), block, sizeof block, 0);
            if (size <= 0) return answer;
            answer.append(block, static_cast<std::size_t>(size));
        }
    }

  private:
    proto::UniqueFd listener_;
    sockaddr_in address_{};
};

bool serves_http() {
    return !contains(run({.arguments = {openerctl_program(), "metrics", "--listen", "nowhere"}}).err,
                     "built without");
}

}  // namespace

TEST_CASE("metrics: reloads, the policy, the confinement and the processes of the opener are told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    RunningOpener opener(directory, small_policy);
    const auto metrics = [&] { return openerctl(directory, {"metrics"}).out; };
    const std::string first = metrics();
    CHECK(contains(first, "\nfdbroker_last_reload_successful 1\n"));
    CHECK(contains(first, "\nfdbroker_policy_info{sha256=\""));
    CHECK(contains(first, "\nfdbroker_confinement_layer{layer=\"seccomp\",state=\"enforced\"} 1\n"));

    write_file(opener.policy(), "version: 2\n");
    CHECK(openerctl(directory, {"reload"}).status == 3);
    const std::string refused = metrics();
    CHECK(contains(refused, "\nfdbroker_last_reload_successful 0\n"));
    CHECK(contains(refused, "\nfdbroker_reloads_total{result=\"refused\"} 1\n"));
    // The processes were looked at when the metrics were asked for before.
    for (const char* process : {"supervisor", "broker"}) {
        CHECK(contains(refused, "\nfdbroker_processes{process=\"" + std::string(process) + "\"} 1\n"));
        CHECK(contains(
            refused, "\nfdbroker_process_resident_memory_bytes{process=\"" + std::string(process) + "\"} "));
    }
    CHECK(contains(refused, "\nfdbroker_processes{process=\"helpers\"} "));

    write_file(opener.policy(), small_policy);
    CHECK(openerctl(directory, {"reload"}).status == 0);
    CHECK(contains(metrics(), "\nfdbroker_last_reload_successful 1\n"));
    CHECK(opener.stop() == 0);
}

TEST_CASE("metrics: --listen serves /metrics by HTTP and nothing else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(serves_http(), "openerctl was built without cpp-httplib");
    const TempDir directory;
    const Scraped scraped;
    RunningOpener opener(directory, small_policy);
    Process server = Process::start({.arguments = {openerctl_program(), "--control",
                                                   directory / "control.sock", "metrics", "--listen", "fd:9"},
                                     .identity = Identity{},
                                     .descriptors = {{9, scraped.listener()}}});
    const std::string metrics = scraped.ask("GET", "/metrics");
    CHECK(metrics.starts_with("HTTP/1.1 200 "));
    CHECK(contains(metrics, "Content-Type: text/plain; version=0.0.4"));
    CHECK(contains(metrics, "\nfdbroker_last_reload_successful 1\n"));
    CHECK(scraped.ask("HEAD", "/metrics").starts_with("HTTP/1.1 200 "));
    for (const char* target : {"/", "/metrics/", "/metrics2", "/../etc/passwd", "/%2e%2e/etc/passwd"})
        CHECK(scraped.ask("GET", target).starts_with("HTTP/1.1 404 "));
    CHECK_FALSE(scraped.ask("POST", "/metrics", "reload").starts_with("HTTP/1.1 200 "));
    CHECK_FALSE(scraped.ask("PUT", "/metrics", "x").starts_with("HTTP/1.1 200 "));

    CHECK(opener.stop() == 0);
    const std::string nobody = scraped.ask("GET", "/metrics");
    CHECK(nobody.starts_with("HTTP/1.1 503 "));
    CHECK(contains(nobody, "control.sock"));
    server.signal(SIGTERM);
    CHECK(server.wait().signal == SIGTERM);
}

TEST_CASE("metrics: an address that is none, or that is taken, is told") {
    FDBROKER_SKIP_UNLESS(serves_http(), "openerctl was built without cpp-httplib");
    const auto listen = [](const std::string& address) {
        return run({.arguments = {openerctl_program(), "metrics", "--listen", address}});
    };
    for (const char* address : {"nowhere", ":1", "127.0.0.1:x", "127.0.0.1:99999", "fd:x"}) {
        CAPTURE(address);
        CHECK(listen(address).status == 2);
    }
    CHECK(listen("fd:0").status == 1);
    const Scraped scraped;
    const Outcome taken = listen(scraped.address());
    CHECK(taken.status == 1);
    CHECK(contains(taken.err, scraped.address()));
}

TEST_CASE("control: members of the group fdbroker-metrics may ask for metrics, and for nothing else") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    const TempDir directory;
    run_in_mount_namespace([&] {
        write_file(directory / "group", read_file("/etc/group") + "fdbroker-metrics:x:30942:\n");
        REQUIRE(::mount((directory / "group").c_str(), "/etc/group", nullptr, MS_BIND, nullptr) == 0);
        RunningOpener opener(directory, small_policy);
        const Identity member{.uid = some_user, .gid = 30942};
        CHECK(contains(openerctl(directory, {"metrics"}, member).out, "fdbroker_sessions"));
        CHECK(openerctl(directory, {"metrics", "--json"}, member).status == 0);
        for (const char* command : {"status", "shutdown", "reload", "watch", "connections", "workers"}) {
            const Outcome outcome = openerctl(directory, {command}, member);
            CAPTURE(command);
            CHECK(outcome.status == 1);
            CHECK(contains(outcome.err, "may ask for metrics alone"));
        }
        const Identity stranger{.uid = some_user, .gid = some_user};
        CHECK(openerctl(directory, {"metrics"}, stranger).status == 4);
        CHECK(openerctl(directory, {"status"}).status == 0);
        CHECK(opener.stop() == 0);
    });
}
