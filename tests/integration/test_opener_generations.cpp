// SPDX-License-Identifier: MIT
// Generations of the broker: what clients notice of a reload, a crash and a stop.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <random>

#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};

    Fixture() {
        make_directory(directory / "data");
        for (const char* name : {"data/a", "data/b"}) write_file(directory / name, name, {.mode = 0600});
    }
    std::string path(const char* name) const { return directory / ("data/" + std::string(name)); }
    // Allows reading of one file.
    std::string policy(const char* name) const {
        return "version: 1\nrules:\n  - name: only-" + std::string(name) +
               "\n    allow: [read]\n    paths: [\"" + path(name) + "\"]\n";
    }
};

// Peers that keep requests under way: each message asks for both files, of which each policy allows one. An answer that
// nobody waits for is an exception, unless it says once more, of a request that was answered, that its outcome is
// unknown: PROTOCOL.md allows that after a crash.
class Load {
  public:
    static constexpr std::size_t peer_count = 12;
    static constexpr std::size_t messages_per_peer = 3;

    Load(const std::filesystem::path& socket, const Fixture& fixture)
        : paths_{fixture.path("a"), fixture.path("b")} {
        for (std::size_t i = 0; i < peer_count; ++i) {
            peers_.emplace_back(socket);
            for (std::size_t n = 0; n < messages_per_peer; ++n) ask(peers_.back());
        }
    }

    static constexpr std::size_t max_under_way() { return peer_count * messages_per_peer * 2; }
    std::size_t answered() const { return answered_; }
    std::size_t allowed(const std::string& name) const { return name == "a" ? allowed_[0] : allowed_[1]; }
    std::size_t unknown() const { return unknown_; }
    std::size_t repeated() const { return repeated_; }
    // Messages of which both requests were allowed or both refused.
    std::size_t decided_by_neither() const { return decided_by_neither_; }

    void run(const std::function<bool()>& until) {
        const Deadline deadline = in_good_time();
        while (!until()) {
            if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("answers are missing");
            for (Peer& peer : peers_) {
                take_answers(peer);
                while (peer.under_way.size() < messages_per_peer) ask(peer);
            }
        }
    }
    // Until all that is under way is answered.
    void finish() {
        for (Peer& peer : peers_)
            while (!peer.under_way.empty()) take_answers(peer);
    }

  private:
    struct Peer {
        explicit Peer(const std::filesystem::path& socket) : connection(socket) {}
        TestPeer connection;
        std::uint32_t next_id = 1;
        // The statuses that came, by the id of the first of the message's two requests.
        std::map<std::uint32_t, std::array<std::optional<int>, 2>> under_way{};
    };

    void ask(Peer& peer) {
        peer.connection.ask(paths_);
        peer.under_way[peer.next_id] = {};
        peer.next_id += 2;
    }

    void take_answers(Peer& peer) {
        for (const auto& answer : peer.connection.answers()) {
            const std::uint32_t index = (answer.id - 1) % 2;
            const auto found = peer.under_way.find(answer.id - index);
            if (found == peer.under_way.end() || found->second[index]) {
                if (answer.id >= peer.next_id || answer.status != EIO)
                    throw std::runtime_error("an answer that nobody waits for");
                ++repeated_;
                continue;
            }
            if (answer.status != 0 && answer.status != EACCES && answer.status != EIO)
                throw std::runtime_error("refused: " + answer.reason);
            found->second[index] = answer.status;
            ++answered_;
            unknown_ += answer.status == EIO;
            allowed_[index] += answer.status == 0;
            if (!found->second[0] || !found->second[1]) continue;
            const int first = *found->second[0], second = *found->second[1];
            decided_by_neither_ += first != EIO && second != EIO && (first == 0) == (second == 0);
            peer.under_way.erase(found);
        }
    }

    std::vector<std::string> paths_;
    std::vector<Peer> peers_{};
    std::size_t answered_ = 0, unknown_ = 0, repeated_ = 0, decided_by_neither_ = 0;
    std::array<std::size_t, 2> allowed_{};
};

}  // namespace

TEST_CASE("generations: after a reload the next request on an open connection meets the new policy") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.path("a")).status == 0);
    CHECK(peer.open(fixture.path("b")).status == EACCES);
    write_file(opener.policy(), fixture.policy("b"));
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 1, "reload");
    CHECK(peer.open(fixture.path("a")).status == EACCES);
    CHECK(peer.open(fixture.path("b")).status == 0);
}

TEST_CASE("generations: a policy that does not load changes nothing and is complained about") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    const pid_t broker = opener.broker();
    write_file(opener.policy(), "version: 1\nrules: nonsense\n");
    opener.process().signal(SIGHUP);
    opener.process().wait_for_error("stays in force");
    CHECK(opener.process().wait_for_error("policy.yaml:2:8").size() > 0);
    CHECK(opener.broker() == broker);
    CHECK(peer.open(fixture.path("a")).status == 0);
}

TEST_CASE(
    "generations: a crash brings no edit into force that nobody asked to load, nor stumbles over a bad one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.directory / "policy.d");
    const std::string rule = "  - {name: fragment, allow: [read], paths: [" + fixture.path("b") + "]}\n";
    write_file(fixture.directory / "policy.d/one.yaml", "rules:\n" + rule);
    const std::string policy = "include: [\"policy.d/*.yaml\"]\n" + fixture.policy("a");
    RunningOpener opener(fixture.directory, policy);
    TestPeer peer(opener.socket());
    const auto crash = [&](std::size_t starts) {
        ::kill(opener.broker(), SIGKILL);
        opener.wait_for_event("start", starts);
    };
    CHECK(peer.open(fixture.path("a")).status == 0);
    write_file(opener.policy(), fixture.policy("b"));
    write_file(fixture.directory / "policy.d/one.yaml", "rules: []\n");
    crash(2);
    CHECK(peer.open(fixture.path("a")).status == 0);
    CHECK(peer.open(fixture.path("b")).status == 0);
    // Once more: what a generation was given counts as its own.
    write_file(opener.policy(), "nonsense");
    crash(3);
    CHECK(peer.open(fixture.path("a")).status == 0);
    // A reload reads the files, and when it fails it is still the old text that a crash loads.
    opener.process().signal(SIGHUP);
    opener.process().wait_for_error("stays in force");
    crash(4);
    CHECK(peer.open(fixture.path("a")).status == 0);
    write_file(opener.policy(), fixture.policy("b"));
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 1, "reload");
    CHECK(peer.open(fixture.path("a")).status == EACCES);
    CHECK(peer.open(fixture.path("b")).status == 0);
}

TEST_CASE("generations: a generation whose start hangs is given up, and the one before stays in force") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"), {"--start-timeout", "1"});
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.path("a")).status == 0);
    write_file(opener.policy(), fixture.policy("b"));
    const pid_t hung = hold_next_child(opener.process().pid(), [&] { opener.process().signal(SIGHUP); });
    // As with a filesystem that hangs: the process is killed, and does not end.
    opener.process().wait_for_error("within 1 seconds");
    opener.process().wait_for_error("stays in force");
    CHECK(peer.open(fixture.path("a")).status == 0);
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 1, "reload");
    CHECK(peer.open(fixture.path("b")).status == 0);
    reap_held(hung);
    CHECK(opener.stop() == 0);
}

TEST_CASE("generations: a stop does not wait for one whose start hangs") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    const pid_t hung = hold_next_child(opener.process().pid(), [&] { opener.process().signal(SIGHUP); });
    CHECK(opener.stop() == 0);
    reap_held(hung);
}

TEST_CASE("generations: a broker that is killed is replaced, and its connections go on") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.path("a")).status == 0);
    const pid_t broker = opener.broker();
    const proto::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, broker, 0)));
    ::kill(broker, SIGKILL);
    wait_readable(process.borrow());
    // Without waiting for the next one.
    const auto answer = peer.open(fixture.path("a"));
    CAPTURE(answer.reason);
    CHECK(answer.status == 0);
    CHECK(opener.broker() != broker);
    CHECK(opener.wait_for_event("start", 2).back()["generation"] == 2);
    CHECK(TestPeer(opener.socket()).open(fixture.path("a")).status == 0);
}

TEST_CASE(
    "generations: what a broker had taken and not answered when it died is answered by the next, each "
    "request once") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    // Refusals: the broker stops reading a peer that leaves descriptors unread long before its socket is full.
    const std::vector<std::string> batch(proto::max_requests, fixture.path("b"));
    const std::size_t worked_on = refusals_until_parked();
    std::size_t asked = 0;
    for (; asked <= worked_on; asked += batch.size()) peer.ask(batch);
    opener.wait_for_event("request", worked_on);
    ::kill(opener.broker(), SIGKILL);
    std::map<std::uint32_t, int> answers;
    std::size_t failed = 0, received = 0;
    while (received < asked) {
        for (const auto& answer : peer.answers()) {
            ++received;
            ++answers[answer.id];
            failed += answer.status == EIO;
            CHECK((answer.status == EACCES || answer.status == EIO));
        }
    }
    CHECK(answers.size() == asked);
    CHECK(std::ranges::all_of(answers, [](const auto& entry) { return entry.second == 1; }));
    CHECK(failed > 0);
    CHECK(failed <= proto::max_requests);
}

TEST_CASE(
    "generations: a message that a broker had received and not yet noted when it died is answered by the "
    "next") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket()), other(opener.socket());
    // Longer than what comes after it: nothing of it may be taken for that.
    CHECK(other.open(fixture.path("b") + std::string(200, 'b')).status == EACCES);
    CHECK(peer.open(fixture.path("a")).status == 0);
    SUBCASE("requests") {
        kill_after_receiving(opener.broker(),
                             [&] { peer.ask({fixture.path("a"), fixture.path("b"), fixture.path("a")}); });
        std::map<std::uint32_t, int> answers;
        while (answers.size() < 3) {
            for (const auto& answer : peer.answers()) {
                CHECK(answer.status == EIO);
                ++answers[answer.id];
            }
        }
        // Each once, and nobody else got one.
        for (TestPeer* const next : {&peer, &other}) {
            next->ask({fixture.path("a")});
            const auto answer = next->answers();
            CHECK(answer.size() == 1);
            CHECK(answer.front().status == 0);
        }
    }
    SUBCASE("a hello") {
        std::array<std::byte, 64> hello;
        const std::size_t size = proto::write_hello(hello);
        kill_after_receiving(opener.broker(), [&] { peer.send(std::span(hello).first(size)); });
        wait_readable(peer.socket());
        std::array<std::byte, 256> reply;
        const auto message = proto::receive(peer.socket(), reply, proto::Wait::never);
        REQUIRE(message);
        CHECK(proto::read_hello_reply(*message));
        CHECK(peer.open(fixture.path("a")).status == 0);
    }
    SUBCASE("nonsense") {
        const std::array<std::byte, 12> nonsense{std::byte{1}, std::byte{99}};
        kill_after_receiving(opener.broker(), [&] { peer.send(nonsense); });
        CHECK(peer.wait_for_end() != "");
        CHECK(other.open(fixture.path("a")).status == 0);
    }
}

TEST_CASE("generations: brokers killed at random moments under load lose no connection and no answer") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    Load load(opener.socket(), fixture);
    load.run([&] { return load.answered() > 1000; });
    std::minstd_rand random(20);
    for (std::size_t kills = 1; kills <= 10; ++kills) {
        const std::size_t until = load.answered() + random() % 3000;
        load.run([&] { return load.answered() >= until; });
        ::kill(opener.broker(), SIGKILL);
        const std::size_t then = load.answered();
        // More than what was under way, so that the next one has answered, too.
        load.run([&] { return load.answered() > then + 4 * load.max_under_way(); });
    }
    load.finish();
    CHECK(load.decided_by_neither() == 0);
    CHECK(load.allowed("b") == 0);
    CHECK(load.unknown() <= 10 * load.max_under_way());
    // Requests in flight when the broker died may be sent again, for each session.
    CHECK(load.repeated() <= 10 * 2 * Load::messages_per_peer);
    CHECK(opener.stop() == 0);
}

// FDBROKER_TEST_RELOADS=1000 for the long form.
TEST_CASE("generations: reloads under load answer every request once, by one policy or the other") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const char* const wanted = std::getenv("FDBROKER_TEST_RELOADS");
    const std::size_t reloads = wanted == nullptr ? 30 : std::strtoul(wanted, nullptr, 10);
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    Load load(opener.socket(), fixture);
    for (std::size_t reload = 1; reload <= reloads; ++reload) {
        const char* const next = reload % 2 == 0 ? "a" : "b";
        // In one step: the generation that reads it shall not meet half of it.
        write_file(fixture.directory / "next.yaml", fixture.policy(next));
        std::filesystem::rename(fixture.directory / "next.yaml", opener.policy());
        opener.process().signal(SIGHUP);
        const std::size_t before = load.allowed(next);
        load.run([&] { return load.allowed(next) > before + load.max_under_way(); });
    }
    load.finish();
    CHECK(load.decided_by_neither() == 0);
    CHECK(load.unknown() == 0);
    CHECK(load.repeated() == 0);
    CHECK(opener.count_events("start", "reload") == reloads);
    CHECK(opener.stop() == 0);
}

TEST_CASE("generations: SIGTERM answers what was sent before, removes the socket and ends with status 0") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    // Another peer's: who was just being answered may hear a second time that the outcome is unknown.
    TestPeer peer(opener.socket());
    CHECK(TestPeer(opener.socket()).open(fixture.path("a")).status == 0);
    const pid_t broker = opener.broker();
    ::kill(broker, SIGSTOP);
    for (int i = 0; i < 5; ++i) peer.ask({fixture.path("a")});
    opener.process().signal(SIGTERM);
    wait_for_removal(opener.socket());
    ::kill(broker, SIGCONT);
    std::size_t answered = 0;
    while (answered < 5) {
        for (const auto& answer : peer.answers()) {
            CHECK(answer.content() == "data/a");
            ++answered;
        }
    }
    CHECK(peer.wait_for_end() == "");
    CHECK(opener.process().wait().status == 0);
    const auto records = opener.wait_for_event("stop");
    CHECK(records.back()["event"] == "stop");
    for (std::size_t i = 0; i < records.size(); ++i) CHECK(records[i]["seq"] == i + 1);
}

TEST_CASE("generations: a broker that stands still for five seconds is replaced without a service manager") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    const TestPeer::Answer before = peer.open(fixture.path("a"));
    CHECK(before.status == 0);
    const pid_t broker = opener.broker();
    ::kill(broker, SIGSTOP);
    wait_until_stopped(broker);
    peer.ask({fixture.path("a")});
    std::vector<TestPeer::Answer> answers = peer.answers();
    // A broker that stops after a reply, with the in-flight entry still there, leaves that request to the next one.
    while (answers.back().id == before.id) answers = peer.answers();
    CHECK(answers.back().content() == "data/a");
    CHECK(opener.broker() != broker);
    opener.process().wait_for_error("generation 1 has not answered for 5 seconds: it is killed");
    CHECK(opener.wait_for_event("start", 2).size() > 2);
    CHECK(opener.stop() == 0);
}

TEST_CASE("generations: SIGUSR1 goes on in a new audit file and loses no record") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy("a"));
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.path("a")).status == 0);
    opener.wait_for_event("request");
    std::filesystem::rename(fixture.directory / "audit.jsonl", fixture.directory / "audit.1");
    opener.process().signal(SIGUSR1);
    wait_for_path(fixture.directory / "audit.jsonl");
    CHECK(peer.open(fixture.path("a")).record == 4);
    CHECK(opener.wait_for_event("request").front()["seq"] == 4);
}
