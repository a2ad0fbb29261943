// SPDX-License-Identifier: MIT
// What one peer or one user can take from the others: turns, requests a second, room in the log.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "opener/quota/helper_limits.hpp"
#include "tests/integration/control_peer.hpp"
#include "tests/integration/missing_calls.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

using Fixture = ServedFile;

bool has_strace() {
    return ::access("/usr/bin/strace", X_OK) == 0;
}

// How often a process went to sleep in its loop meanwhile.
template <typename Body>
std::size_t sleeps_while(const Fixture& fixture, pid_t pid, Body body) {
    make_directory(fixture.directory / "traces", {.mode = 0777});
    const std::string trace = fixture.directory / "traces/trace";
    Process strace = Process::start(
        {.arguments = {"/usr/bin/strace", "-p", std::to_string(pid), "-o", trace, "-e", "trace=epoll_wait"}});
    strace.wait_for_error("attached");
    body();
    strace.signal(SIGINT);
    strace.wait();
    std::istringstream lines(read_file(trace));
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line);) count += line.starts_with("epoll_wait(");
    return count;
}

// The limit that a process keeps to; none: what it may raise it to. Whoever has the process's own ids may set it, and
// else only CAP_SYS_RESOURCE, which a container's root may lack.
void limit_descriptors(pid_t pid, std::optional<rlim_t> limit) {
    std::map<std::string, uid_t> ids;
    std::istringstream lines(read_file("/proc/" + std::to_string(pid) + "/status"));
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("Uid:") || line.starts_with("Gid:"))
            ids[line.substr(0, 3)] = static_cast<uid_t>(std::stoul(line.substr(5)));
    }
    run_as({.uid = ids["Uid"], .gid = ids["Gid"]}, [&] {
        rlimit now{};
        REQUIRE(::prlimit(pid, RLIMIT_NOFILE, nullptr, &now) == 0);
        now.rlim_cur = limit.value_or(now.rlim_max);
        REQUIRE(::prlimit(pid, RLIMIT_NOFILE, &now, nullptr) == 0);
    });
}

// So that it can open nothing more: a new descriptor gets the lowest number that is free, below the limit.
void exhaust_descriptors(pid_t pid) {
    const auto open = DescriptorTable::of(pid);
    int lowest_free = 0;
    while (open.entries().contains(lowest_free)) ++lowest_free;
    limit_descriptors(pid, static_cast<rlim_t>(lowest_free));
}

// How many requests of other users were served before the first of this one.
std::ptrdiff_t served_before(const std::vector<nlohmann::json>& records, uid_t uid) {
    const auto is_request = [](const auto& record) { return record["event"] == "request"; };
    const auto own = std::ranges::find_if(
        records, [&](const auto& record) { return is_request(record) && record["peer"]["uid"] == uid; });
    REQUIRE(own != records.end());
    return std::count_if(records.begin(), own, is_request);
}

// Sends a message of requests for the status of a file.
void send_stats(const TestPeer& peer, const std::string& path, std::size_t count) {
    std::vector<std::byte> buffer(proto::max_message_size);
    proto::RequestWriter writer(buffer);
    for (std::uint32_t id = 1; id <= count; ++id)
        REQUIRE(writer.add({.id = id, .call = proto::Call::stat, .path = path}));
    peer.send(writer.message());
}

// The total that records stand for, counted ones included.
std::size_t recorded(const std::vector<nlohmann::json>& records, std::string_view event) {
    std::size_t total = 0;
    for (const auto& record : records)
        if (record["event"] == event) total += record.value("count", std::size_t{1});
    return total;
}

}  // namespace

TEST_CASE("limits: a single request waits for one turn of a user who pipelines over many connections") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    auto many = peers_of(some_user, opener, 20);
    auto one = peers_of(other_user, opener, 1);
    for (TestPeer& peer : many) CHECK(peer.open(fixture.file).status == 0);
    std::filesystem::rename(fixture.directory / "audit.jsonl", fixture.directory / "audit.1");
    opener.process().signal(SIGUSR1);
    wait_for_path(fixture.directory / "audit.jsonl");
    {
        const HeldProcess held(opener.broker());
        for (TestPeer& peer : many) {
            for (int i = 0; i < 40; ++i) peer.ask({fixture.file});
        }
        one.front().ask({fixture.file});
    }
    const auto records = opener.wait_for_event("request", 801);
    CHECK(served_before(records, other_user) <= 2 * 32);
    // The connections of a user take turns as well: none has been served twice before another was once.
    std::set<std::uint64_t> served;
    std::size_t before_all = 0;
    while (served.size() < 21) served.insert(records[before_all++].value("session", std::uint64_t{0}));
    CHECK(before_all <= 21 * 33 + 40);
}

TEST_CASE("limits: a user who sends full batches gets no more turns than one who sends single requests") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    // The kernel has no descriptor of a status to deliver, so that nothing has to be read back; grants are recorded one by
    // one.
    RunningOpener opener(fixture.directory, replace_all(fixture.policy, "[read]", "[read, stat]"));
    auto batches = peers_of(some_user, opener, 2);
    auto singles = peers_of(other_user, opener, 2);
    CHECK(batches[0].open(fixture.file).status == 0);
    CHECK(singles[1].open(fixture.file).status == 0);
    {
        const HeldProcess held(opener.broker());
        for (TestPeer& peer : batches) {
            for (int message = 0; message < 3; ++message) send_stats(peer, fixture.file, proto::max_requests);
        }
        for (TestPeer& peer : singles) {
            for (int i = 0; i < 100; ++i) send_stats(peer, fixture.file, 1);
        }
    }
    const auto records = opener.wait_for_event("request", 2 + 6 * proto::max_requests + 200);
    // While both had something to ask, neither got ahead by more than a batch and a turn.
    std::ptrdiff_t ahead = 0, most = 0;
    std::size_t of_singles = 0;
    for (const auto& record : records) {
        if (record["event"] != "request" || record["call"] != "stat") continue;
        if (record["peer"]["uid"] == some_user) {
            most = std::max(most, ++ahead);
        } else {
            --ahead;
            if (++of_singles == 200) break;
        }
    }
    CHECK(of_singles == 200);
    CHECK(most <= static_cast<std::ptrdiff_t>(proto::max_requests) + 2 * 32);
}

TEST_CASE("limits: requests above a user's rate are late and never an error, and others notice nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy + "limits: {requests_per_second: {rate: 100, burst: 10}}\n");
    auto eager = peers_of(some_user, opener, 2);
    auto modest = peers_of(other_user, opener, 1);
    // Over all connections of the user.
    for (TestPeer& peer : eager) {
        for (int i = 0; i < 50; ++i) peer.ask({fixture.file});
    }
    opener.wait_for_event("request", 11);
    CHECK(modest.front().open(fixture.file).status == 0);
    for (TestPeer& peer : eager) {
        std::size_t answered = 0;
        while (answered < 50) {
            for (const auto& answer : peer.answers()) {
                CHECK(answer.status == 0);
                ++answered;
            }
        }
    }
    const auto records = opener.wait_for_event("request", 101);
    CHECK(served_before(records, other_user) < 100);
}

TEST_CASE("limits: a broker whose peers are paused sleeps, also when one of them hangs up") {
    FDBROKER_SKIP_UNLESS(is_root() && has_strace(), "needs root and strace");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy + "limits: {requests_per_second: {rate: 50, burst: 1}}\n");
    auto eager = peers_of(some_user, opener, 3);
    const std::size_t sleeps = sleeps_while(fixture, opener.broker(), [&] {
        for (TestPeer& peer : eager) {
            for (int i = 0; i < 20; ++i) peer.ask({fixture.file});
        }
        eager.pop_back();
        opener.wait_for_event("request", 40);
    });
    CHECK(sleeps < 400);
}

TEST_CASE(
    "limits: a supervisor that can take no connection waits until it can, and does all else meanwhile") {
    FDBROKER_SKIP_UNLESS(is_root() && has_strace(), "needs root and strace");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer before(opener.socket());
    CHECK(before.open(fixture.file).status == 0);
    exhaust_descriptors(opener.process().pid());
    TestPeer late(opener.socket());
    late.ask({fixture.file});
    const auto begun = std::chrono::steady_clock::now();
    const std::size_t sleeps = sleeps_while(fixture, opener.process().pid(), [&] {
        for (int i = 0; i < 50; ++i) CHECK(before.open(fixture.file).status == 0);
        opener.wait_for_event("request", 51);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    // For each interval of the log, each try to accept, each child's signal.
    CHECK(static_cast<double>(sleeps) < 100 + took.count() * 200);
    limit_descriptors(opener.process().pid(), {});
    CHECK(late.answers().front().status == 0);
}

TEST_CASE("limits: a broker without a descriptor left refuses what needs one, and ends nobody else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer before(opener.socket());
    CHECK(before.open(fixture.file).status == 0);
    // A delivered file is closed by the time the next request is served.
    CHECK(before.open("/etc/shadow").status == EACCES);
    exhaust_descriptors(opener.broker());
    CHECK(before.open(fixture.file).status == EMFILE);
    TestPeer late(opener.socket());
    late.wait_for_end();
    limit_descriptors(opener.broker(), {});
    CHECK(before.open(fixture.file).status == 0);
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
}

TEST_CASE("limits: whatever the kernel lacks for another connection, the opener goes on without it") {
    FDBROKER_SKIP_UNLESS(is_root() && has_strace(), "needs root and strace");
    for (const int error : {ENFILE, ENOMEM, ENOBUFS}) {
        CAPTURE(error);
        const Fixture fixture;
        run_in_child([&] {
            take_away({{SCMP_SYS(accept4), error}});
            RunningOpener opener(fixture.directory, fixture.policy);
            const TestPeer peer(opener.socket());
            const auto begun = std::chrono::steady_clock::now();
            const std::size_t sleeps = sleeps_while(fixture, opener.process().pid(), [&] {
                opener.process().signal(SIGHUP);
                opener.wait_for_event("start", 2);
            });
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
            CHECK(static_cast<double>(sleeps) < 100 + took.count() * 200);
            CHECK(opener.stop() == 0);
        });
    }
}

TEST_CASE("limits: a flood of connections leaves nothing behind, and others are served") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 20}\n");
    TestPeer other(opener.socket());
    CHECK(other.open(fixture.file).status == 0);
    CHECK(other.open("/etc/shadow").status == EACCES);
    const auto of_broker = DescriptorTable::of(opener.broker());
    const auto of_supervisor = DescriptorTable::of(opener.process().pid());
    REQUIRE(::seteuid(some_user) == 0);
    for (int round = 0; round < 100; ++round) {
        std::vector<TestPeer> crowd;
        // More than the user may have: some are told so and let go.
        for (int i = 0; i < 30; ++i) crowd.emplace_back(opener.socket());
    }
    REQUIRE(::seteuid(0) == 0);
    for (int i = 0; i < 50; ++i) CHECK(other.open(fixture.file).status == 0);
    CHECK(other.open("/etc/shadow").status == EACCES);
    opener.wait_for_event("session-end", 1);
    const Deadline deadline = in_good_time();
    // A cached file may be out of reach for a moment, and the helper that then reads it is kept.
    while (DescriptorTable::of(opener.process().pid()).count() > of_supervisor.count() ||
           DescriptorTable::of(opener.broker()).count() > of_broker.count() + opener::max_idle_helpers)
        REQUIRE(std::chrono::steady_clock::now() < deadline);
    // With its end the opener records what it still counts.
    CHECK(opener.stop() == 0);
    const auto records = opener.wait_for_event("stop", 1);
    // Sessions that are counted together have separate counts of beginnings and ends.
    std::set<std::uint64_t> begun, ended;
    std::uint64_t starts = 0, ends = 0;
    bool counted = false;
    for (const auto& record : records) {
        const std::uint64_t count = record.value("count", std::uint64_t{1});
        if (record["event"] == "session-start") {
            begun.insert(record["session"].get<std::uint64_t>());
            starts += count;
            counted = counted || count > 1;
        }
        if (record["event"] == "session-end") {
            ended.insert(record["session"].get<std::uint64_t>());
            ends += count;
        }
    }
    for (const std::uint64_t session : ended) CHECK((counted || begun.contains(session)));
    CHECK(starts >= ends);
}

TEST_CASE("limits: connections that wait since no place is free yet are on record, and served then") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections_total: 2}\n");
    ControlPeer control(fixture.directory / "control.sock");
    const std::size_t before = DescriptorTable::of(opener.process().pid()).count();
    std::vector<TestPeer> peers;
    {
        // Nobody gives way to newcomers.
        const HeldProcess held(opener.broker());
        for (uid_t uid = some_user; uid < some_user + 80; ++uid)
            peers.push_back(std::move(peers_of(uid, opener, 1).front()));
        const Deadline deadline = in_good_time();
        while (DescriptorTable::of(opener.process().pid()).count() < before + 2 + 64)
            REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
    CHECK(peers.back().open(fixture.file).status == 0);
    opener.wait_for_event("connections-wait", 1, "there are as many connections as may be in all");
    CHECK(control.ask_json("metrics --json")["connection_waits"] > 0);
}

TEST_CASE("limits: a user whose records exceed the budget is slowed and told of, and nobody else is") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy + "limits: {record_bytes_per_second: {rate: 16KiB, burst: 32KiB}}\n");
    auto flood = peers_of(some_user, opener, 1);
    auto other = peers_of(other_user, opener, 1);
    ControlPeer control(fixture.directory / "control.sock");
    // A message is served whole; each grant takes some 300 bytes of the log.
    constexpr std::size_t grants = 250;
    flood.front().ask(std::vector<std::string>(grants, fixture.file));
    flood.front().ask({fixture.file});
    for (const auto& answer : flood.front().answers(grants)) {
        CHECK(answer.status == 0);
        CHECK(answer.record != 0);
    }
    for (int i = 0; i < 20; ++i) CHECK(other.front().open(fixture.file).status == 0);
    const auto status = control.ask_json("status --json");
    REQUIRE(status["slowed"].size() == 1);
    CHECK(status["slowed"][0]["uid"] == some_user);
    const auto metrics = ControlPeer(fixture.directory / "control.sock").ask_json("metrics --json");
    CHECK(metrics["users_slowed"] == nlohmann::json{{"now", 1}, {"times", 1}});
    opener.process().wait_for_error("uid " + std::to_string(some_user) + " ");
    opener.process().wait_for_error("limits: record_bytes_per_second");
    // The user is late, and neither refused nor unrecorded.
    const auto late = flood.front().answers();
    CHECK(late.front().status == 0);
    CHECK(late.front().record > grants + 20);
    CHECK(recorded(opener.wait_for_event("request", grants + 21), "request") == grants + 21);
}

TEST_CASE("limits: missing names and connections for each request slow nobody, and all are in the log") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    // Were each recorded by itself, they would take 20 times the budget.
    RunningOpener opener(
        fixture.directory,
        "version: 1\nlimits: {record_bytes_per_second: {rate: 64KiB, burst: 64KiB}}\nrules:\n"
        "  - {name: site, allow: [read], paths: [\"" +
            (fixture.directory / "data").string() + "/**\"]}\n");
    constexpr std::size_t names = 3000, connections = 300;
    {
        TestPeer visitor(opener.socket());
        for (std::size_t i = 0; i < names; i += 100) {
            std::vector<std::string> paths;
            for (std::size_t j = i; j < i + 100; ++j) paths.push_back(fixture.file + std::to_string(j));
            visitor.ask(paths);
            for (const auto& answer : visitor.answers(100)) CHECK(answer.status == ENOENT);
        }
    }
    // As a server does that forks for each request.
    for (std::size_t i = 0; i < connections; ++i)
        CHECK(TestPeer(opener.socket()).open(fixture.file + "x").status == ENOENT);
    ControlPeer control(fixture.directory / "control.sock");
    CHECK(control.ask_json("metrics --json")["users_slowed"]["times"] == 0);
    CHECK(opener.stop() == 0);
    const auto records = opener.wait_for_event("stop");
    CHECK(recorded(records, "request") == names + connections);
    CHECK(recorded(records, "session-start") == 1 + connections);
    CHECK(recorded(records, "session-end") == 1 + connections);
    CHECK(records.size() < 2000);
}

TEST_CASE(
    "limits: a peer that leaves its replies unread is cut off, which is on record, and others are not") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {reply_timeout: 500ms}\n");
    auto mute = peers_of(some_user, opener, 1);
    TestPeer idle(opener.socket());
    CHECK(idle.open(fixture.file).status == 0);
    // More than it may leave unread.
    for (int i = 0; i < 4; ++i) mute.front().ask(std::vector<std::string>(proto::max_requests, fixture.file));
    const auto records = opener.wait_for_event("session-end", 1, "the peer does not read its replies");
    CHECK(records.back()["peer"]["uid"] == some_user);
    CHECK(idle.open(fixture.file).status == 0);
    CHECK(mute.front().wait_for_end() == "the peer does not read its replies");
}

TEST_CASE("limits: refusals of one kind are counted, and the log says how many") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    {
        TestPeer peer(opener.socket());
        for (int i = 0; i < 20; ++i) {
            std::vector<std::string> paths;
            for (int j = 0; j < 50; ++j) paths.push_back("/no/" + std::to_string(50 * i + j));
            peer.ask(paths);
        }
        std::size_t answered = 0, counted = 0;
        while (answered < 1000) {
            for (const auto& answer : peer.answers()) {
                CHECK(answer.status == EACCES);
                counted += answer.record == 0;
                ++answered;
            }
        }
        CHECK(counted > 0);
    }
    CHECK(opener.stop() == 0);
    const auto records = opener.wait_for_event("stop");
    CHECK(recorded(records, "request") == 1000);
    CHECK(records.size() < 500);
}

TEST_CASE("limits: counts of an ended session are on record before the session is gone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::string policy = fixture.policy;
    policy.replace(policy.find("allow:"), 0, "deadline: 200ms, ");
    // Whoever breaks the lease waits in a helper.
    ::signal(SIGIO, SIG_IGN);
    const proto::UniqueFd held(::open(fixture.file.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::fcntl(held.number(), F_SETLEASE, F_WRLCK) == 0);
    // Freed memory holds nothing that could still be used.
    REQUIRE(::setenv("MALLOC_PERTURB_", "85", 1) == 0);
    RunningOpener opener(fixture.directory, policy);
    REQUIRE(::unsetenv("MALLOC_PERTURB_") == 0);
    TestPeer(opener.socket()).ask(std::vector<std::string>(200, fixture.file));
    opener.wait_for_event("session-end");
    wait_for_content(fixture.directory / "audit.jsonl", "counted record", [](const std::string& content) {
        return content.find("\"count\":") != std::string::npos;
    });
    CHECK(opener.stop() == 0);
    CHECK(opener.count_events("start") == 1);
    CHECK(recorded(opener.wait_for_event("request"), "request") == 200);
}
