// SPDX-License-Identifier: MIT
// The control socket of a real opener: its commands, who may use it, and that it holds nobody up.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};

    Fixture() {
        make_directory(directory / "data");
        write_file(directory / "data/a", "content", {.mode = 0600});
    }
    std::string file() const { return directory / "data/a"; }
    std::filesystem::path control() const { return directory / "control.sock"; }
    std::string policy(const char* rule = "data") const {
        return "version: 1\nroles:\n  root: {users: [root]}\nrules:\n  - name: " + std::string(rule) +
               "\n    roles: [root]\n    allow: [read]\n    paths: [\"" + (directory / "data").string() +
               "/**\"]\n  - {name: gone, allow: [read], paths: [\"" + (directory / "missing").string() +
               "/**\"]}\n";
    }
};

// Sends a command, as `echo COMMAND | socat - UNIX-CONNECT:…` has it.
std::string answer(const Fixture& fixture, std::string_view command) {
    ControlPeer peer(fixture.control());
    peer.send(std::string(command) + "\n");
    peer.end();
    return peer.rest();
}

Outcome openerctl(const Fixture& fixture, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {openerctl_program(), "--control", fixture.control().string()});
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("control: every command answers, in text and in JSON") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    const auto descriptors = DescriptorTable::of(opener.broker());
    {
        TestPeer worker(opener.socket());
        const auto delivered = worker.open(fixture.file());
        CHECK(delivered.status == 0);
        CHECK(worker.open("/etc/passwd").status == EACCES);

        CHECK(contains(answer(fixture, "status"), "policy.yaml, 2 rules, 1 role"));
        const json status = json::parse(answer(fixture, "status --json"));
        CHECK(status["sessions"] == 1);
        CHECK(status["generation"]["number"] == 1);
        CHECK(status["dormant"][0]["path"] == (fixture.directory / "missing").string());
        CHECK(status["confinement"]["layers"].size() > 5);
        CHECK(contains(answer(fixture, "uptime"), "since 20"));
        CHECK(json::parse(answer(fixture, "uptime --json"))["uptime_s"].is_number());
        CHECK(answer(fixture, "echo one  two") == "one  two\n");
        CHECK(json::parse(answer(fixture, "echo --json x"))["text"] == "x\n");
        CHECK(contains(answer(fixture, "metrics"),
                       "fdbroker_requests_total{operation=\"read\",decision=\"allowed\""));
        CHECK(json::parse(answer(fixture, "metrics --json"))["rules"][0]["requests"] == 1);
        const json connection = json::parse(answer(fixture, "connections --grants --json"))["connections"][0];
        CHECK(connection["pid"] == ::getpid());
        CHECK(connection["requests"] == 2);
        CHECK(connection["refused"] == 1);
        CHECK(connection["grants"][0] == json({{"rule", "data"},
                                               {"delivered", 1},
                                               {"last_path", fixture.file()},
                                               {"last", connection["last_request"]}}));
        CHECK(contains(answer(fixture, "connections --grants"), "data  " + fixture.file() + "\n"));
        const std::string record = std::to_string(delivered.record);
        CHECK(contains(answer(fixture, "why " + record), "allowed: open read " + fixture.file() + "\n"));
        CHECK(json::parse(answer(fixture, "why --json " + record))["rule"] == "data");
        CHECK(contains(answer(fixture, "why 4711"), "error: why: there is no record 4711 yet\n"));
        CHECK(contains(answer(fixture, "help"), "connections [--grants]"));
        const json explained = json::parse(
            answer(fixture, R"(explain --json {"uid":1,"gid":1,"groups":[],"operations":["read"],"path":")" +
                                fixture.file() + "\"}"));
        CHECK(explained["allowed"] == false);
        CHECK(explained["near_misses"][0]["rule"] == "data");
    }
    opener.wait_for_event("session-end");
    // Each of these has gone without leaving anything behind.
    ControlPeer last(fixture.control());
    CHECK(last.ask_json("status --json")["sessions"] == 0);
    CHECK(DescriptorTable::of(opener.broker()).count() == descriptors.count() + 1);
}

TEST_CASE("control: several lines of one connection are answered in turn, the last one without a line feed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const RunningOpener opener(fixture.directory, fixture.policy());
    ControlPeer peer(fixture.control());
    peer.send("echo 1\necho 2\r\nec");
    peer.send("ho 3\necho 4");
    peer.end();
    CHECK(peer.rest() == "1\n2\n3\n4\n");
}

TEST_CASE(
    "control: whoever is neither root nor in the control group is told so, whatever the socket's mode") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const RunningOpener opener(fixture.directory, fixture.policy(), {"--control-group", "daemon"});
    std::filesystem::permissions(fixture.control(), std::filesystem::perms(0777));
    const std::string refusal = "error: only root and the members of the control group control the opener\n";
    const auto ask = [&] {
        ControlPeer peer(fixture.control());
        peer.send("echo hello\n");
        peer.end();
        return peer.rest();
    };
    run_as(some_user, [&] { CHECK(ask() == refusal); });
    const gid_t daemon = 1;
    run_as({.uid = some_user, .gid = some_user, .groups = {7, daemon}}, [&] { CHECK(ask() == "hello\n"); });
    run_as({.uid = some_user, .gid = daemon}, [&] { CHECK(ask() == "hello\n"); });
}

TEST_CASE("control: an unknown command is refused, and ends neither another client nor the broker") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    const pid_t broker = opener.broker();
    ControlPeer other(fixture.control());
    CHECK(contains(answer(fixture, std::string("sta\0tus", 7)), "error: a line holds no NUL byte\n"));
    CHECK(contains(answer(fixture, std::string(200'000, 'x')), "error: a line has at most 65536 bytes\n"));
    CHECK(contains(answer(fixture, "\xff\x1b[2J"), "is no command"));
    CHECK(contains(answer(fixture, "explain {\"uid\":"), "error: "));
    CHECK(contains(answer(fixture, "explain " + std::string(50'000, '[')), "error: "));
    CHECK(contains(answer(fixture, "why 99999999999999999999999"), "error: "));
    {
        const ControlPeer half(fixture.control());
        half.send("stat");
    }
    CHECK(other.ask("echo still here") == "still here");
    CHECK(opener.broker() == broker);
}

TEST_CASE("control: a watch shows each decision as it is made, and goes on over a reload and a crash") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    ControlPeer text(fixture.control()), as_json(fixture.control());
    text.send("watch\n");
    as_json.send("watch --json\n");
    ControlPeer asker(fixture.control());
    while (asker.ask_json("metrics --json")["watchers"] != 2) {
    }
    TestPeer worker(opener.socket());
    const auto check = [&] {
        const auto delivered = worker.open(fixture.file());
        CHECK(delivered.status == 0);
        const json seen = json::parse(as_json.line());
        CHECK(seen["decision"] == "allowed");
        CHECK(seen["path"] == fixture.file());
        CHECK(seen["seq"] == delivered.record);
        CHECK(seen["peer"]["pid"] == ::getpid());
        const std::string line = text.line();
        CHECK(contains(line, " allowed open read " + fixture.file() + " pid " + std::to_string(::getpid())));
    };
    check();
    CHECK(openerctl(fixture, {"reload"}).status == 0);
    check();
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 3);
    check();
}

TEST_CASE("control: a watcher that does not read loses decisions, is told how many, and holds nobody up") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    ControlPeer slow(fixture.control()), asker(fixture.control());
    slow.send("watch --json\n");
    while (asker.ask_json("metrics --json")["watchers"] != 1) {
    }
    TestPeer worker(opener.socket());
    std::uint64_t sent = 0;
    while (asker.ask_json("metrics --json")["lost_watch_records"] == 0) {
        for (int i = 0; i < 100; ++i, ++sent) CHECK(worker.open("/none").status == EACCES);
    }
    std::uint64_t seen = 0, lost = 0;
    while (seen + lost < sent) {
        const json record = json::parse(slow.line());
        if (record["event"] == "lost") {
            lost += record["records"].get<std::uint64_t>();
        } else {
            ++seen;
        }
    }
    CHECK(seen + lost == sent);
    CHECK(lost > 0);
    CHECK(seen > 100);
}

TEST_CASE("control: hundreds of connections take no worker's place, and root's are not for others") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory,
                         fixture.policy() + "limits: {connections: 2, connections_total: 18}\n",
                         {"--control-group", "daemon"});
    TestPeer worker(opener.socket());
    std::vector<ControlPeer> peers;
    for (int i = 0; i < 300; ++i) peers.emplace_back(fixture.control());
    CHECK(worker.open(fixture.file()).status == 0);
    CHECK(TestPeer(opener.socket()).open(fixture.file()).status == 0);
    std::size_t served = 0;
    for (ControlPeer& peer : peers) served += peer.ask("echo served") == "served" ? 1U : 0U;
    CHECK(served == 32);
    CHECK(peers.back().rest() == "");
    run_as({.uid = some_user, .gid = 1},
           [&] { CHECK(ControlPeer(fixture.control()).ask("echo hi") == "hi"); });
    CHECK(worker.open(fixture.file()).status == 0);
    peers.clear();
    // As soon as the broker has noticed.
    while (ControlPeer(fixture.control()).ask("echo again") != "again") {
    }
}

TEST_CASE("control: clients that ask without reading delay no worker for good") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    std::vector<ControlPeer> mute;
    for (int i = 0; i < 8; ++i) {
        mute.emplace_back(fixture.control());
        std::string many;
        for (int line = 0; line < 200; ++line) many += "metrics\n";
        mute.back().send(many);
    }
    TestPeer worker(opener.socket());
    for (int i = 0; i < 200; ++i) CHECK(worker.open(fixture.file()).status == 0);
    CHECK(answer(fixture, "echo and others") == "and others\n");
}

TEST_CASE("control: clients that ask without end get four answers in each turn of the peers at most") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer worker(opener.socket());
    CHECK(worker.open(fixture.file()).status == 0);
    std::vector<ControlPeer> flood;
    for (int i = 0; i < 8; ++i) flood.emplace_back(fixture.control());
    for (ControlPeer& peer : flood) CHECK(peer.ask("echo here") == "here");
    constexpr std::uint64_t requests = 640;
    const pid_t broker = opener.broker();
    ::kill(broker, SIGSTOP);
    wait_until_stopped(broker);
    for (ControlPeer& peer : flood) {
        std::string many;
        for (int line = 0; line < 100; ++line) many += "status --json\n";
        peer.send(many);
    }
    // In few messages: so many fit into the socket of a broker that stands still.
    for (std::uint64_t i = 0; i < requests;) {
        std::vector<std::string> paths;
        while (paths.size() < 32) paths.push_back("/no/" + std::to_string(i++));
        worker.ask(paths);
    }
    ::kill(broker, SIGCONT);
    for (std::uint64_t answered = 0; answered < requests;) answered += worker.answers().size();
    // Each answer tells how many decisions had been recorded, or counted into a record, by then.
    std::size_t before_the_last = 0;
    for (ControlPeer& peer : flood) {
        for (int line = 0; line < 100; ++line) {
            const json audit = json::parse(peer.line())["audit"];
            const auto recorded =
                audit["records"].get<std::uint64_t>() + audit["counted"].get<std::uint64_t>();
            before_the_last += recorded < requests + 1;
        }
    }
    // A round over the peers takes 32 requests, and a control client may come before the first.
    CHECK(before_the_last <= 4 * (requests / 32 + 1));
}

TEST_CASE("control: since when a peer is connected and how often it asked is known over reloads") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer worker(opener.socket());
    for (int i = 0; i < 3; ++i) CHECK(worker.open(fixture.file()).status == 0);
    CHECK(worker.open("/etc/shadow").status == EACCES);
    ControlPeer control(fixture.control());
    const json before = control.ask_json("connections --json")["connections"][0];
    for (int i = 0; i < 2; ++i) CHECK(control.ask_json("reload --json")["reloaded"] == true);
    const json taken_over = control.ask_json("connections --grants --json")["connections"][0];
    CHECK(taken_over["session"] == before["session"]);
    CHECK(taken_over["since"] == before["since"]);
    CHECK(taken_over["requests"] == 4);
    CHECK(taken_over["refused"] == 1);
    CHECK(taken_over["last_request"].is_null());
    CHECK(taken_over["grants"].empty());
    CHECK(worker.open(fixture.file()).status == 0);
    CHECK(control.ask_json("connections --json")["connections"][0]["requests"] == 5);
    // The counts of a generation that dies are lost, the reports it was given are not.
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 4);
    const json after_crash = control.ask_json("connections --json")["connections"][0];
    CHECK(after_crash["since"] == before["since"]);
    CHECK(after_crash["requests"] == 4);
}

TEST_CASE("control: reload answers when the new policy serves, and with its errors when it does not") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer worker(opener.socket());
    CHECK(worker.open(fixture.file()).status == 0);
    write_file(opener.policy(), fixture.policy("other"));
    const json served = json::parse(answer(fixture, "reload --json"));
    CHECK(served["reloaded"] == true);
    CHECK(served["generation"]["number"] == 2);
    CHECK(worker.open(fixture.file()).status == 0);
    CHECK(json::parse(answer(fixture, "metrics --json"))["rules"][0]["rule"] == "other");

    write_file(opener.policy(), "version: 1\nrules: nonsense\n");
    const json refused = json::parse(answer(fixture, "reload --json"));
    CHECK(refused["status"] == 3);
    CHECK(refused["diagnostics"][0]["file"] == opener.policy().string());
    CHECK(refused["diagnostics"][0]["line"] == 2);
    CHECK(refused["diagnostics"][0]["column"] == 8);
    CHECK(contains(answer(fixture, "reload"), opener.policy().string() + ":2:8: "));
    const Outcome told = openerctl(fixture, {"reload"});
    CHECK(told.status == 3);
    CHECK(contains(told.err, opener.policy().string() + ":2:8: "));
    CHECK(worker.open(fixture.file()).status == 0);
    CHECK(json::parse(answer(fixture, "status --json"))["supervisor"]["failed_reloads"].get<int>() >= 1);
}

TEST_CASE("control: commands that come while the broker is replaced are answered by the next one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    ControlPeer peer(fixture.control());
    CHECK(peer.ask("echo before") == "before");
    const pid_t broker = opener.broker();
    ::kill(broker, SIGSTOP);
    wait_until_stopped(broker);
    peer.send("echo after\nuptime --json\n");
    ControlPeer half(fixture.control());
    half.send("echo ha");
    ::kill(broker, SIGKILL);
    CHECK(peer.line() == "after");
    CHECK(json::parse(peer.line())["generation"]["number"] == 2);
    half.send("lf\n");
    CHECK(half.line() == "half");
    CHECK(json::parse(answer(fixture, "status --json"))["supervisor"]["crashes"] == 1);
}

TEST_CASE("control: shutdown ends the opener, which then cannot be reached") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    const Outcome told = openerctl(fixture, {"shutdown"});
    CHECK(told.status == 0);
    CHECK(told.out == "the opener stops\n");
    CHECK(opener.process().wait().status == 0);
    CHECK(!std::filesystem::exists(fixture.control()));
    const Outcome unreachable = openerctl(fixture, {"status"});
    CHECK(unreachable.status == 4);
    CHECK(contains(unreachable.err, "cannot be reached"));
}

TEST_CASE("control: openerctl prints what the opener answers, and explains by the policy that it serves") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    CHECK(contains(openerctl(fixture, {"status"}).out, "2 rules"));
    CHECK(json::parse(openerctl(fixture, {"status", "--json"}).out)["sessions"] == 0);
    CHECK(openerctl(fixture, {"echo", "a  b"}).out == "a  b\n");
    CHECK(contains(openerctl(fixture, {"metrics"}).out, "# TYPE fdbroker_sessions gauge\n"));
    CHECK(openerctl(fixture, {"why", "4711"}).status == 1);
    CHECK(openerctl(fixture, {"why", "x"}).status == 2);

    const auto explain = [&](const char* user) {
        return openerctl(fixture, {"policy", "explain", "--as", user, "read", fixture.file()});
    };
    const Outcome allowed = explain("root");
    CHECK(allowed.status == 0);
    CHECK(contains(allowed.out, "regular file, owner 0, mode 0600"));
    CHECK(explain("daemon").status == 1);
    // The present content of the file does not count.
    write_file(opener.policy(), "version: 1\nrules: []\n");
    const Outcome still = explain("root");
    CHECK(still.status == 0);
    CHECK(contains(still.out, "could not be looked at, since the policy's files are not what was loaded"));
}

TEST_CASE("control: workers are listed, and their number is changed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    {
        const RunningOpener none(fixture.directory, fixture.policy());
        CHECK(contains(answer(fixture, "workers"), "error: workers: this opener looks after none"));
        CHECK(contains(answer(fixture, "workers web 2"), "error: workers: this opener looks after none"));
    }
    const RunningOpener opener(fixture.directory, fixture.policy(),
                               {"--workers", "web=1", "--worker-user", "nobody", "--", "sleep", "1000"});
    const auto running = [&] {
        const json all = json::parse(answer(fixture, "workers --json"));
        CHECK(all["pool"] == "web");
        return std::ranges::count_if(all["workers"], [](const json& one) { return one["pid"].is_number(); });
    };
    while (running() != 1) {
    }
    CHECK(contains(answer(fixture, "workers"), "web: 1 wanted\n"));
    CHECK(openerctl(fixture, {"workers", "web", "3"}).status == 0);
    while (running() != 3) {
    }
    CHECK(openerctl(fixture, {"workers", "mail", "3"}).status == 1);
    CHECK(openerctl(fixture, {"workers", "web", "many"}).status == 2);
    CHECK(openerctl(fixture, {"workers", "web"}).status == 2);
    CHECK(openerctl(fixture, {"workers", "web", "0"}).status == 0);
    while (running() != 0) {
    }
}

TEST_CASE("control: with none there is no socket; one that is asked for and cannot be had ends the start") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml", fixture.policy());
    const auto start = [&](const std::string& control) {
        return Process::start(
            {.arguments = {opener_program(), "--policy", fixture.directory / "policy.yaml", "--listen",
                           fixture.directory / "opener.sock", "--audit", "none", "--control", control}});
    };
    Process without = start("none");
    CHECK(!contains(without.wait_for_error("serving"), "controlled at"));
    without.signal(SIGTERM);
    CHECK(without.wait().status == 0);
    const Outcome impossible = start(fixture.directory / "no-such-directory/control.sock").wait();
    CHECK(impossible.status == 1);
    CHECK(contains(impossible.err, "no-such-directory"));
}

TEST_CASE("control: paths are printed as UTF-8, other bytes as the escape that a pattern takes") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string data = fixture.directory / "data";
    make_directory(data + "/b\xff_");
    for (const char* name : {"/zo\xc3\xab", "/b\xff_/\xe9", "/not"}) write_file(data + name, "content");
    std::filesystem::create_symlink("zo\xc3\xab", data + "/l\xc3\xabnk");
    const std::string policy = "version: 1\nrules:\n  - {name: z, allow: [read], paths: [\"" + data +
                               "/*\"]}\n  - {name: bytes, allow: [read], paths: ['" + data +
                               R"(/b\xff_/\xe9']}
tests:
  - {as: {user: root}, read: ")" +
                               data + "/zo\xc3\xab\", expect: allow, rule: z}\n";
    const RunningOpener opener(fixture.directory, policy);
    TestPeer peer(opener.socket());
    const auto shown = [&](const std::string& path, const std::string& expected) {
        CAPTURE(expected);
        const auto told = peer.open(path);
        const std::string why = openerctl(fixture, {"why", std::to_string(told.record)}).out;
        CHECK(contains(why, " " + expected + "\n"));
        const std::string explained =
            openerctl(fixture, {"policy", "explain", "--as", "root", "read", path}).out;
        CHECK(contains(explained, "read " + expected + " as "));
        return told.status;
    };
    CHECK(shown(data + "/zo\xc3\xab", data + "/zo\xc3\xab") == 0);
    CHECK(shown(data + "/b\xff_/\xe9", data + R"(/b\xff_/\xe9)") == 0);
    CHECK(shown(data + "/b\xff_/\xe8", data + R"(/b\xff_/\xe8)") == EACCES);
    CHECK(shown(data + "/l\xc3\xabnk", data + "/l\xc3\xabnk") == ELOOP);
    CHECK(peer.open(data + "/l\xc3\xabnk").reason == "\"" + data + "/l\xc3\xabnk\" is a symbolic link");
    const std::string check =
        run({.arguments = {opener_program(), "--check", "--control", "none", "--policy", opener.policy()}})
            .out;
    CHECK(contains(check, "directory " + data + ": read-only"));
}

// ---- no generation serves --------------------------------------------------------------------------------

namespace {

// As if a filesystem hung while the next generation starts.
struct HeldStart {
    explicit HeldStart(RunningOpener& opener)
        : child(hold_next_child(opener.process().pid(),
                                [&] { REQUIRE(::kill(opener.broker(), SIGKILL) == 0); })) {}
    ~HeldStart() {
        ::kill(child, SIGKILL);
        reap_held(child);
    }
    HeldStart(const HeldStart&) = delete;
    HeldStart& operator=(const HeldStart&) = delete;
    pid_t child;
};

}  // namespace

TEST_CASE("control: while no generation serves, whoever asks is told so and why") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    ControlPeer waiting(fixture.control());
    CHECK(waiting.ask("echo 1") == "1");
    ControlPeer idle(fixture.control());
    CHECK(idle.ask("echo 2") == "2");
    ControlPeer watcher(fixture.control());
    watcher.send("watch\n");
    while (json::parse(answer(fixture, "metrics --json"))["watchers"] != 1) {
    }
    {
        const HeldStart held(opener);
        waiting.send("status\n");
        const std::string why = "error: no generation serves: generation 2 starts, since generation 1 ";
        CHECK(waiting.rest().starts_with(why));
        CHECK(answer(fixture, "status --json").starts_with(why));
        const Outcome asked = openerctl(fixture, {"status"});
        CHECK(asked.status == 4);
        CHECK(contains(asked.err, "no generation serves: generation 2 starts"));
        const Outcome in_json = openerctl(fixture, {"status", "--json"});
        CHECK(in_json.status == 4);
        CHECK(json::parse(in_json.out)["error"].get<std::string>().starts_with("no generation serves: "));
        CHECK(openerctl(fixture, {"policy", "explain", "--as", "root", "read", fixture.file()}).status == 4);
    }
    // The next one answers those who asked for nothing meanwhile, and goes on with watches.
    TestPeer(opener.socket()).open(fixture.file());
    CHECK(idle.ask("echo 3") == "3");
    CHECK(contains(watcher.line(), fixture.file()));
}

TEST_CASE("control: while the broker stands still, whoever asks is told so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    const pid_t broker = opener.broker();
    REQUIRE(::kill(broker, SIGSTOP) == 0);
    wait_until_stopped(broker);
    const Outcome asked = openerctl(fixture, {"status"});
    CHECK(asked.status == 4);
    CHECK(contains(asked.err, "no generation serves: generation 1 does not answer"));
    ControlPeer idle(fixture.control());
    REQUIRE(::kill(broker, SIGCONT) == 0);
    while (openerctl(fixture, {"status"}).status != 0) {
    }
    CHECK(idle.ask("echo 1") == "1");
}
