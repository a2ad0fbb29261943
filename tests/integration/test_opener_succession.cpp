// SPDX-License-Identifier: MIT
// An opener that takes the place of another, whose clients notice no more than a delay.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/integration/service_manager.hpp"
#include "tests/integration/succession_fixture.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

// Openers that a service manager starts one after the other, over one file.
struct Service {
    ServedFile served{};
    ServiceManager manager;

    explicit Service(std::size_t room = 4096) : manager(served.directory, room) {
        write_file(served.directory / "policy.yaml", served.policy);
    }
    std::string socket() const { return served.directory / "opener.sock"; }
    Process start(std::vector<std::string> more = {}) const {
        Process process = start_unready(std::move(more));
        process.wait_for_error("serving");
        return process;
    }
    Process start_unready(std::vector<std::string> more = {}) const {
        return manager.start(RunningOpener::arguments(served.directory, std::move(more)));
    }
    std::vector<json> records() const { return records_in(served.directory / "audit.jsonl"); }
};

}  // namespace

TEST_CASE("succession: a service manager's restart ends no connection and leaves no request unanswered") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Service service;
    Process first = service.start();
    TestPeer idle(service.socket());
    CHECK(idle.open(service.served.file).status == 0);
    AskingPeers asking(service.socket(), service.served.file);
    asking.wait_for_answers(20);
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    CHECK(service.manager.kept("fdb.c") == 5);
    CHECK(service.manager.kept("fdb.l") == 2);
    // While nobody serves, whoever connects waits.
    Asking late(service.socket(), service.served.file);
    idle.ask({service.served.file});

    Process second = service.start();
    REQUIRE(idle.answers().front().status == 0);
    asking.wait_for_answers(20);
    late.wait_for_answers(1);
    asking.stop();
    CHECK(late.stop() == 0);
    const Deadline deadline = in_good_time();
    for (const char* name : {"fdb.c", "fdb.l", "fdb.p", "fdb.s"}) {
        while (service.manager.kept(name) != 0) REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
    // Stopped for good: the service manager lets go of what it keeps.
    second.signal(SIGTERM);
    CHECK(second.wait().status == 0);
    service.manager.forget_all();
    CHECK(idle.wait_for_end() == "");

    const auto records = service.records();
    CHECK(unexplained_numbers(records) == "");
    CHECK(count_events(records, "start") == 2);
    CHECK(count_events(records, "session-start") == 6);
    std::vector<std::uint64_t> generations;
    for (const json& record : records)
        if (record.value("event", "") == "start") generations.push_back(record["generation"]);
    CHECK(generations == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE(
    "succession: what an opener had taken and not answered is answered by the next, each request once") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service;
    Process first = service.start();
    TestPeer peer(service.socket());
    const std::vector<std::string> batch(proto::max_requests, "/etc/shadow");
    const std::size_t worked_on = refusals_until_parked();
    std::size_t asked = 0;
    for (; asked <= worked_on; asked += batch.size()) peer.ask(batch);
    wait_for_content(service.served.directory / "audit.jsonl", "that many decisions",
                     [&](const std::string& text) {
                         std::size_t decided = 0;
                         for (const json& record : parsed(text)) {
                             if (record.value("event", "") == "request") decided += record.value("count", 1U);
                         }
                         return decided >= worked_on;
                     });
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    Process second = service.start();
    std::map<std::uint32_t, int> answers;
    while (answers.size() < asked)
        for (const auto& answer : peer.answers()) ++answers[answer.id];
    CHECK(std::ranges::all_of(answers, [](const auto& entry) { return entry.second == 1; }));
    CHECK(peer.open(service.served.file).status == 0);
    second.signal(SIGTERM);
    CHECK(second.wait().status == 0);
}

TEST_CASE("succession: without a store SIGTERM ends all connections") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service(0);
    Process opener = service.start();
    TestPeer peer(service.socket());
    CHECK(peer.open(service.served.file).status == 0);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    peer.wait_for_end();
    CHECK(service.manager.kept("fdb.c") == 0);
    CHECK_FALSE(std::filesystem::exists(service.socket()));
}

TEST_CASE("succession: a policy that no longer loads leaves the one before in force") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service;
    Process first = service.start();
    TestPeer peer(service.socket());
    CHECK(peer.open(service.served.file).status == 0);
    write_file(service.served.directory / "policy.yaml", "nonsense");
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    Process second = service.start();
    second.wait_for_error("stays so");
    CHECK(peer.open(service.served.file).status == 0);
    CHECK(TestPeer(service.socket()).open(service.served.file).status == 0);
    CHECK(unexplained_numbers(service.records()) == "");
    second.signal(SIGTERM);
    CHECK(second.wait().status == 0);
}

TEST_CASE("succession: an opener that is stopped before it serves passes on what it was given") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service;
    Process first = service.start();
    TestPeer peer(service.socket());
    CHECK(peer.open(service.served.file).status == 0);
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    {
        Process second = service.start_unready();
        second.wait_for_error("takes the place");
        second.signal(SIGTERM);
        second.wait();
    }
    Process third = service.start();
    CHECK(peer.open(service.served.file).status == 0);
    CHECK(unexplained_numbers(service.records()) == "");
    third.signal(SIGTERM);
    CHECK(third.wait().status == 0);
}

TEST_CASE("succession: connections beyond the store's room end, and are told so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service(5);  // two listeners, the legacy, the policy and one connection
    Process first = service.start();
    TestPeer peers[] = {TestPeer(service.socket()), TestPeer(service.socket())};
    for (TestPeer& peer : peers) CHECK(peer.open(service.served.file).status == 0);
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    CHECK(service.manager.kept("fdb.c") == 1);
    Process second = service.start();
    int served = 0;
    for (TestPeer& peer : peers) {
        if (is_readable_now(peer.socket())) {
            CHECK(peer.wait_for_end() == "the opener stops, and has no room to keep the connection");
        } else {
            CHECK(peer.open(service.served.file).status == 0);
            ++served;
        }
    }
    CHECK(served == 1);
    second.signal(SIGTERM);
    CHECK(second.wait().status == 0);
}

TEST_CASE("succession: a client that hung up meanwhile, and one that is watching") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Service service;
    Process first = service.start();
    std::optional<TestPeer> gone(std::in_place, service.socket());
    CHECK(gone->open(service.served.file).status == 0);
    TestPeer peer(service.socket());
    CHECK(peer.open(service.served.file).status == 0);
    ControlPeer watcher(service.served.directory / "control.sock");
    watcher.send("watch --json\n");
    // Once a decision is seen, the watch has begun.
    const Deadline deadline = in_good_time();
    while (!is_readable_now(watcher.socket())) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        CHECK(peer.open(service.served.file).status == 0);
    }
    first.signal(SIGTERM);
    CHECK(first.wait().status == 0);
    watcher.drop_what_came();
    gone.reset();
    Process second = service.start();
    CHECK(peer.open(service.served.file).status == 0);
    CHECK(json::parse(watcher.line())["decision"] == "allowed");
    wait_for_content(service.served.directory / "audit.jsonl", "the end of the session",
                     [](const std::string& text) { return text.find("session-end") != std::string::npos; });
    second.signal(SIGTERM);
    CHECK(second.wait().status == 0);
}

TEST_CASE("succession: state left by another version is dropped, and the opener serves") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile served;
    write_file(served.directory / "policy.yaml", served.policy);
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const proto::UniqueFd left(ends[0]), peer(ends[1]);
    std::vector<std::string> arguments{"/bin/sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"};
    std::ranges::move(RunningOpener::arguments(served.directory, {}), std::back_inserter(arguments));
    write_file(served.directory / "legacy", "another");
    const proto::UniqueFd file(::open((served.directory / "legacy").c_str(), O_RDONLY | O_CLOEXEC));
    Process opener = Process::start({.arguments = arguments,
                                     .environment = {{"LISTEN_FDS", "2"}, {"LISTEN_FDNAMES", "fdb.s:fdb.c"}},
                                     .descriptors = {{3, file.borrow()}, {4, left.borrow()}}});
    opener.wait_for_error("cannot be read");
    opener.wait_for_error("serving");
    wait_readable(peer.borrow());
    CHECK(TestPeer(served.directory / "opener.sock").open(served.file).status == 0);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
}
