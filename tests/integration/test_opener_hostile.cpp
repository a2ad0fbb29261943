// SPDX-License-Identifier: MIT
// What hostile peers, hostile users of the machine, a broker that was taken over and a careless start cannot do to an
// opener.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <span>
#include <sstream>

#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "proto/address.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/syscall_injector.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
namespace to_supervisor = opener::to_supervisor;

namespace {

using Fixture = ServedFile;

void stop_process(pid_t pid) {
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    wait_until_stopped(pid);
}

// Until no signal waits for the process any more.
void wait_until_signals_are_taken(pid_t pid) {
    const Deadline deadline = in_good_time();
    for (std::string status;;) {
        status = read_file("/proc/" + std::to_string(pid) + "/status");
        if (status.find("ShdPnd:\t0000000000000000") != std::string::npos) return;
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("signals stay pending");
    }
}

// Fills the sockets of a peer that does not read with requests and with replies without descriptors. Stops when the broker
// has parked some and takes no more. Returns the number of requests.
std::size_t fill(TestPeer& peer) {
    // Requests so short that a full socket of them has more replies than a socket holds.
    const std::vector<std::string> refused(proto::max_requests, "/n");
    std::size_t asked = 0;
    while (peer.ask(refused, 0, proto::Wait::never)) asked += refused.size();
    return asked;
}

// So many connections that handing them on takes a while.
constexpr int crowd = 2000;
// A user may have that many when there are nine times as many descriptors.
constexpr rlim_t descriptors_for_crowd = 10 * crowd;

// Raises this process's limit of descriptors for that, and so an opener's.
bool may_hold(rlim_t descriptors) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < descriptors) return false;
    limit.rlim_cur = limit.rlim_max;
    return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

bool is_roots(pid_t pid) {
    return read_file("/proc/" + std::to_string(pid) + "/status").find("Uid:\t0\t") != std::string::npos;
}

// The address of the in-flight log in a process: the shared memory of that size.
std::uint64_t find_inflight_log(pid_t pid) {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t size = (opener::InflightLog::memory_size + page - 1) / page * page;
    std::istringstream maps(read_file("/proc/" + std::to_string(pid) + "/maps"));
    std::uint64_t newest = 0;
    for (std::string line; std::getline(maps, line);) {
        std::uint64_t begin = 0, end = 0;
        char dash = 0;
        std::istringstream(line) >> std::hex >> begin >> dash >> end;
        if (line.find("/dev/zero") != std::string::npos && end - begin == size)
            newest = std::max(newest, begin);
    }
    REQUIRE(newest != 0);
    return newest;
}

// Before anybody connects it is the last of the broker's sockets.
int link_of(pid_t broker) {
    int link = -1;
    const DescriptorTable table = DescriptorTable::of(broker);
    for (const auto& [number, what] : table.entries())
        if (what.find("socket:") != std::string::npos) link = number;
    return link;
}

}  // namespace

TEST_CASE("hostile: a broker that does not read its link leaves the supervisor free") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 2000}\n");
    const pid_t broker = opener.broker();
    stop_process(broker);
    // More than the link holds; the supervisor used to wait for room with the first that did not fit.
    std::vector<TestPeer> peers;
    for (int i = 0; i < 900; ++i) peers.emplace_back(opener.socket());
    std::filesystem::rename(fixture.directory / "audit.jsonl", fixture.directory / "audit.1");
    opener.process().signal(SIGUSR1);
    wait_for_path(fixture.directory / "audit.jsonl");
    REQUIRE(::kill(broker, SIGCONT) == 0);
    CHECK(peers.front().open(fixture.file).status == 0);
    CHECK(peers.back().open(fixture.file).status == 0);
}

TEST_CASE("hostile: a crowd that hangs up while a new broker takes its connections over stops nobody") {
    FDBROKER_SKIP_UNLESS(is_root() && may_hold(descriptors_for_crowd), "needs root and many descriptors");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 4000}\n");
    std::vector<TestPeer> peers;
    for (int i = 0; i < crowd; ++i) peers.emplace_back(opener.socket());
    CHECK(peers.back().open(fixture.file).status == 0);
    // The new one has as many connections to let go of as the supervisor has to hand on.
    ::kill(opener.broker(), SIGKILL);
    peers.clear();
    opener.wait_for_event("start", 2);
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("hostile: a peer that says hello without end takes turns with the others") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer greeter(opener.socket()), other(opener.socket());
    CHECK(greeter.open(fixture.file).status == 0);
    CHECK(other.open(fixture.file).status == 0);
    const pid_t broker = opener.broker();
    stop_process(broker);
    std::array<std::byte, 64> hello;
    const std::size_t size = proto::write_hello(hello);
    for (int i = 0; i < 100; ++i) greeter.send(std::span(hello).first(size));
    greeter.ask({"/of/greeter"});
    other.ask({"/of/other"});
    REQUIRE(::kill(broker, SIGCONT) == 0);
    const auto records = opener.wait_for_event("request", 4);
    CHECK(records.back()["path"] == "/of/greeter");
}

TEST_CASE("hostile: peers that do not read do not drive out another user's peer that is slow") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy + "limits: {connections: 200}\naudit: {refused: false}\n");
    const std::vector<std::string> batch(proto::max_requests, fixture.file);
    TestPeer slow(opener.socket());
    for (int i = 0; i < 4; ++i) slow.ask(batch);
    opener.wait_for_event("request", batch.size());
    std::vector<TestPeer> mute;
    REQUIRE(::seteuid(some_user) == 0);
    for (int i = 0; i < 80; ++i) {
        mute.emplace_back(opener.socket());
        fill(mute.back());
    }
    REQUIRE(::seteuid(0) == 0);
    // All but 64 have had to go.
    opener.wait_for_event("session-end", 80 - 64,
                          "the peer does not read its replies, and others need their place");
    std::size_t answered = 0;
    while (answered < 4 * batch.size()) answered += slow.answers().size();
    CHECK(slow.open(fixture.file).status == 0);
}

TEST_CASE("hostile: requests that come while replies to others wait to be read are answered, each once") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "audit: {refused: false}\n");
    TestPeer peer(opener.socket());
    // By turns one request and as many as a message holds: their replies do not fit into one message.
    const std::vector<std::string> one{"/n"}, many(proto::max_requests, "/n");
    std::size_t asked = 0;
    while (peer.ask(one, 0, proto::Wait::never) && ++asked && peer.ask(many, 0, proto::Wait::never))
        asked += many.size();
    std::set<std::uint32_t> answered;
    for (std::size_t answers = 0; answers < asked;) {
        for (const auto& answer : peer.answers()) {
            ++answers;
            answered.insert(answer.id);
            CHECK(answer.status == EACCES);
        }
    }
    CHECK(answered.size() == asked);
}

TEST_CASE("hostile: a peer may leave two full replies unread before it has to read") {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    FDBROKER_SKIP_UNLESS(is_root() && limit.rlim_max >= 8 * 2 * proto::max_requests,
                         "needs root and a limit of descriptors that leaves room");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const std::vector<std::string> batch(proto::max_requests, fixture.file);
    TestPeer peer(opener.socket());
    for (int i = 0; i < 4; ++i) peer.ask(batch);
    opener.wait_for_event("request", 3 * batch.size());
    std::size_t answered = 0;
    while (answered < 4 * batch.size()) answered += peer.answers().size();
}

TEST_CASE("hostile: a peer that does not read delays a reload, and with it the others, but for a moment") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer mute(opener.socket()), other(opener.socket());
    fill(mute);
    CHECK(other.open(fixture.file).status == 0);
    opener.process().signal(SIGHUP);
    auto longest = std::chrono::steady_clock::duration::zero();
    do {
        const auto asked = std::chrono::steady_clock::now();
        CHECK(other.open(fixture.file).status == 0);
        longest = std::max(longest, std::chrono::steady_clock::now() - asked);
    } while (read_file(fixture.directory / "audit.jsonl").find("\"cause\":\"reload\"") == std::string::npos);
    CHECK(longest < std::chrono::milliseconds(1500));
}

TEST_CASE("hostile: an in-flight log that claims too much is no way from one broker into the next") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer victim(opener.socket()), other(opener.socket());
    CHECK(victim.open(fixture.file).status == 0);
    CHECK(other.open(fixture.file).status == 0);
    const auto session = opener.wait_for_event("request", 2)[1]["session"].get<std::uint64_t>();
    const pid_t broker = opener.broker();
    stop_process(broker);
    std::vector<opener::InflightEntry> entries(opener::InflightLog::entry_count);
    std::uint32_t id = 1000;
    for (opener::InflightEntry& entry : entries) {
        entry.connection_id = session;
        entry.count = 0xffffffff;
        std::ranges::generate(entry.ids, [&] { return id++; });
    }
    {
        std::ofstream memory("/proc/" + std::to_string(broker) + "/mem", std::ios::binary);
        memory.seekp(static_cast<std::streamoff>(find_inflight_log(broker)));
        memory.write(reinterpret_cast<const char*>(entries.data()),
                     static_cast<std::streamsize>(entries.size() * sizeof entries[0]));
        REQUIRE(memory.flush());
    }
    ::kill(broker, SIGKILL);
    CHECK(victim.wait_for_end() != "");
    CHECK(other.open(fixture.file).status == 0);
    CHECK(opener.wait_for_event("start", 2).back()["generation"] == 2);
}

TEST_CASE(
    "hostile: a broker that was taken over reloads or stops nothing while nobody is at the control socket") {
    FDBROKER_SKIP_UNLESS(is_root() && SyscallInjector::is_supported(),
                         "needs root, and registers known to the test");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const pid_t broker = opener.broker();
    const int link = link_of(broker);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.file).status == 0);
    const auto session = opener.wait_for_event("request").back()["session"].get<std::uint64_t>();
    {
        SyscallInjector taken(broker);
        const auto send = [&](const opener::ToSupervisor& message) {
            const auto encoded = opener::encode(message);
            REQUIRE(taken.call(SYS_sendto, {link, InjectedArgument::bytes_of(encoded.buffer), encoded.size, 0,
                                            0, 0}) == static_cast<long>(encoded.size));
        };
        for (const std::uint64_t connection_id : {std::uint64_t{0}, session, std::uint64_t{4711}}) {
            send(to_supervisor::Reload{connection_id});
            send(to_supervisor::TakeOver{connection_id});
            send(to_supervisor::Shutdown{connection_id});
            send(to_supervisor::SetWorkers{.connection_id = connection_id, .count = 1});
        }
    }
    CHECK(peer.open(fixture.file).status == 0);
    // The supervisor takes messages in their order: what it was asked before the end of this session it has read.
    {
        const TestPeer ended = std::move(peer);
    }
    opener.wait_for_event("session-end");
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    CHECK(opener.broker() == broker);
    CHECK(opener.stop() == 0);
}

TEST_CASE("hostile: a broker that asks and asks and reads no answer is ended") {
    FDBROKER_SKIP_UNLESS(is_root() && SyscallInjector::is_supported(),
                         "needs root, and registers known to the test");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const pid_t broker = opener.broker();
    const int link = link_of(broker);
    const proto::UniqueFd control(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = proto::Address::parse((fixture.directory / "control.sock").string())->socket_name();
    REQUIRE(::connect(control.number(), reinterpret_cast<const sockaddr*>(&address.address), address.size) ==
            0);
    const std::string_view command = "uptime\n";
    REQUIRE(::write(control.number(), command.data(), command.size()) > 0);
    wait_readable(control.borrow());
    bool ended = false;
    try {
        SyscallInjector taken(broker);
        for (int i = 0; i < 20'000; ++i) {
            const auto encoded =
                opener::encode<opener::ToSupervisor>(to_supervisor::SetWorkers{.connection_id = 1});
            taken.call(SYS_sendto, {link, InjectedArgument::bytes_of(encoded.buffer), encoded.size, 0, 0, 0});
        }
    } catch (const std::runtime_error&) {
        ended = true;
    }
    CHECK(ended);
    opener.wait_for_event("crash");
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("hostile: requests that a broker lost are answered although the next one dies, too") {
    FDBROKER_SKIP_UNLESS(is_root() && may_hold(descriptors_for_crowd), "needs root and many descriptors");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy + "limits: {connections: 4000}\naudit: {refused: false}\n");
    std::vector<TestPeer> peers;
    for (int i = 0; i < crowd; ++i) peers.emplace_back(opener.socket());
    CHECK(peers.back().open(fixture.file).status == 0);
    const auto waiting = std::span(peers).first(12);
    std::vector<std::size_t> asked;
    for (TestPeer& peer : waiting) asked.push_back(fill(peer));
    const pid_t first = opener.broker();
    ::kill(first, SIGKILL);
    // The next one dies while it takes the connections over.
    pid_t next = 0;
    const Deadline deadline = in_good_time();
    for (std::ptrdiff_t held = 0; held < 40 && std::chrono::steady_clock::now() < deadline;) {
        try {
            next = opener.broker();
            const std::filesystem::directory_iterator descriptors("/proc/" + std::to_string(next) + "/fd");
            held = next == first || is_roots(next) ? 0 : std::distance(descriptors, {});
        } catch (const std::exception&) {
            held = 0;  // the broker is not there yet
        }
    }
    REQUIRE(::kill(next, SIGKILL) == 0);
    for (std::size_t i = 0; i < waiting.size(); ++i) {
        std::set<std::uint32_t> answered;
        while (answered.size() < asked[i]) {
            for (const auto& answer : waiting[i].answers()) answered.insert(answer.id);
        }
    }
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
}

TEST_CASE("hostile: a policy that changes while a generation starts is loaded after it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.file).status == 0);
    const pid_t broker = opener.broker();
    // So that the hand-over lasts.
    stop_process(broker);
    opener.process().signal(SIGHUP);
    wait_until_signals_are_taken(opener.process().pid());
    const Deadline deadline = in_good_time();
    while (opener.broker() == broker && std::chrono::steady_clock::now() < deadline) {
    }
    // The new one reads the policy before it becomes somebody else.
    while (is_roots(opener.broker()) && std::chrono::steady_clock::now() < deadline) {
    }
    write_file(opener.policy(),
               "version: 1\nrules:\n  - {name: other, allow: [read], paths: [/other/file]}\n");
    opener.process().signal(SIGHUP);
    wait_until_signals_are_taken(opener.process().pid());
    REQUIRE(::kill(broker, SIGCONT) == 0);
    opener.wait_for_event("start", 2, "reload");
    CHECK(peer.open(fixture.file).status == EACCES);
}

TEST_CASE("hostile: a user who locks the socket's directory does not keep an opener from starting") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    REQUIRE(::seteuid(some_user) == 0);
    const proto::UniqueFd directory(
        ::open(fixture.directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::seteuid(0) == 0);
    REQUIRE(directory);
    REQUIRE(::flock(directory.number(), LOCK_EX | LOCK_NB) == 0);
    RunningOpener opener(fixture.directory, fixture.policy);
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    REQUIRE(::seteuid(some_user) == 0);
    CHECK(!proto::UniqueFd(::open((opener.socket().string() + ".lock").c_str(), O_RDONLY | O_CLOEXEC)));
    REQUIRE(::seteuid(0) == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("hostile: an opener that can say nothing, or was started without standard streams, serves") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml", fixture.policy);
    for (const char* streams : {"2>/dev/full", "2>&-", "<&- >&- 2>&-"}) {
        CAPTURE(streams);
        std::vector<std::string> arguments{"sh", "-c", "exec \"$@\" " + std::string(streams), "sh"};
        std::ranges::move(RunningOpener::arguments(fixture.directory, {}), std::back_inserter(arguments));
        Process process = Process::start({.arguments = arguments});
        wait_for_path(fixture.directory / "opener.sock");
        TestPeer peer(fixture.directory / "opener.sock");
        CHECK(peer.open(fixture.file).status == 0);
        ::kill(newest_broker(process.pid()), SIGKILL);
        CHECK(peer.open(fixture.file).status == 0);
        process.signal(SIGTERM);
        CHECK(process.wait().status == 0);
    }
}

TEST_CASE(
    "hostile: an audit file that is a FIFO without a reader is refused, at a start and after a rotation") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml", fixture.policy);
    REQUIRE(::mkfifo((fixture.directory / "audit.jsonl").c_str(), 0600) == 0);
    const Outcome outcome = run({.arguments = RunningOpener::arguments(fixture.directory, {})});
    CHECK(outcome.status == 1);
    CHECK(outcome.err.find("audit.jsonl") != std::string::npos);

    REQUIRE(::unlink((fixture.directory / "audit.jsonl").c_str()) == 0);
    RunningOpener opener(fixture.directory, fixture.policy);
    std::filesystem::rename(fixture.directory / "audit.jsonl", fixture.directory / "audit.1");
    REQUIRE(::mkfifo((fixture.directory / "audit.jsonl").c_str(), 0600) == 0);
    opener.process().signal(SIGUSR1);
    opener.process().wait_for_error("the old file stays in use");
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    CHECK(opener.stop() == 0);
}
