// SPDX-License-Identifier: MIT
// Accounts that policies name and peers have, while the database changes, loses some or does not answer.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

constexpr uid_t alice = 40001;

// The fixture's accounts replace those of /etc for everything that runs in the mount namespace of the test.
struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string users = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
    std::string groups = "root:x:0:\nnogroup:x:65534:\n";

    Fixture() {
        make_directory(directory / "data");
        write_file(directory / "data/a", "content", {.mode = 0600});
        for (const char* name : {"passwd", "group"}) {
            write_file(directory / name, "", {.mode = 0644});
            REQUIRE(::mount((directory / name).c_str(), (std::string("/etc/") + name).c_str(), nullptr,
                            MS_BIND, nullptr) == 0);
        }
        write_file(directory / "nsswitch.conf", "passwd: files\ngroup: files\n", {.mode = 0644});
        if (std::filesystem::exists("/etc/nsswitch.conf"))
            REQUIRE(::mount((directory / "nsswitch.conf").c_str(), "/etc/nsswitch.conf", nullptr, MS_BIND,
                            nullptr) == 0);
        have({});
    }

    // Sets the users that exist, each with a group of the same name.
    void have(const std::vector<std::pair<std::string, uid_t>>& accounts) const {
        std::string passwd = users, group = groups;
        for (const auto& [name, uid] : accounts) {
            const std::string id = std::to_string(uid);
            passwd += name + ":x:" + id + ":" + id + "::/:/bin/sh\n";
            group += name + ":x:" + id + ":\n";
        }
        write_file(directory / "passwd", passwd);
        write_file(directory / "group", group);
    }
    std::string file() const { return directory / "data/a"; }
    std::filesystem::path control() const { return directory / "control.sock"; }
    // Alice and root may read.
    std::string policy() const {
        return "version: 1\nroles:\n  who: {users: [alice, root]}\nrules:\n  - name: data\n    roles: [who]\n"
               "    allow: [read]\n    paths: [\"" +
               (directory / "data").string() + "/**\"]\n";
    }
};

void in_namespace(const std::function<void(Fixture&)>& body) {
    run_in_mount_namespace([&] {
        Fixture fixture;
        body(fixture);
    });
}

int status_as(const Identity& identity, const RunningOpener& opener, const std::string& path) {
    int status = -1;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const proto::UniqueFd read_end(ends[0]), write_end(ends[1]);
    run_as(identity, [&] {
        const int got = TestPeer(opener.socket()).open(path).status;
        REQUIRE(::write(write_end.number(), &got, sizeof got) == sizeof got);
    });
    REQUIRE(::read(read_end.number(), &status, sizeof status) == sizeof status);
    return status;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

Outcome openerctl(const Fixture& fixture, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {openerctl_program(), "--control", fixture.control().string()});
    return run({.arguments = std::move(arguments)});
}

}  // namespace

TEST_CASE("accounts: deleting an account that the policy names does not keep a broker from being replaced") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    in_namespace([](Fixture& fixture) {
        fixture.have({{"alice", alice}});
        RunningOpener opener(fixture.directory, fixture.policy(), {"--control-group", "alice"});
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.file()).status == 0);
        fixture.have({});
        for (int crash = 1; crash <= 2; ++crash) {
            REQUIRE(::kill(opener.broker(), SIGKILL) == 0);
            CHECK(peer.open(fixture.file()).status == 0);
            const json status = ControlPeer(fixture.control()).ask_json("status --json");
            CHECK(status["generation"]["number"] == crash + 1);
            CHECK(status["unknown_accounts"].empty());
        }
        // A reload reports the error, and the policy in force stays.
        CHECK(openerctl(fixture, {"reload"}).status == 3);
        CHECK(openerctl(fixture, {"policy", "check", opener.policy()}).status == 3);
        CHECK(peer.open(fixture.file()).status == 0);
        fixture.have({{"alice", alice}});
        CHECK(openerctl(fixture, {"reload"}).status == 0);
    });
}

TEST_CASE(
    "accounts: at a start an account that does not exist matches nobody, which log, status and check tell") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    in_namespace([](Fixture& fixture) {
        const std::string told =
            "policy.yaml:3:17: role \"who\": users: \"alice\" does not exist on this machine";
        {
            RunningOpener opener(fixture.directory, fixture.policy());
            CHECK(contains(opener.process().wait_for_error(told), told));
            CHECK(TestPeer(opener.socket()).open(fixture.file()).status == 0);
            CHECK(status_as({.uid = alice, .gid = alice}, opener, fixture.file()) == EACCES);
            const json status = ControlPeer(fixture.control()).ask_json("status --json");
            REQUIRE(status["unknown_accounts"].size() == 1);
            CHECK(contains(status["unknown_accounts"][0], told));
            CHECK(contains(openerctl(fixture, {"status"}).out, told));
            // A replacement knows no more, though the account is there by now.
            fixture.have({{"alice", alice}});
            REQUIRE(::kill(opener.broker(), SIGKILL) == 0);
            CHECK(status_as({.uid = alice, .gid = alice}, opener, fixture.file()) == EACCES);
            CHECK(openerctl(fixture, {"reload"}).status == 0);
            // Another group, so that no answer about its names is at hand.
            CHECK(status_as({.uid = alice, .gid = 7}, opener, fixture.file()) == 0);
            CHECK(ControlPeer(fixture.control()).ask_json("status --json")["unknown_accounts"].empty());
        }
        fixture.have({});
        const Outcome checked = run({.arguments = RunningOpener::arguments(fixture.directory, {"--check"})});
        CHECK(checked.status == 0);
        CHECK(contains(checked.out, "account: "));
        CHECK(contains(checked.out, told));
    });
}

// ---- the names of peers ----------------------------------------------------------------------------------

namespace {

// `@` stands for the directory of the test. Who has a name reads below a directory of that name.
constexpr const char* names_policy = R"(version: 1
roles:
  dora: {users: [dora]}
  forty: {users: [40010]}
rules:
  - {name: dora, roles: [dora], allow: [read], paths: ["@/data/**"]}
  - {name: forty, roles: [forty], allow: [read], paths: ["@/data/**"]}
  - {name: own, allow: [read, mkdir], paths: ["@/h/${user}/**"]}
)";

constexpr uid_t dora = 40009;
constexpr uid_t forty = 40010;

// A directory service beside the files.
struct Directory {
    Fixture& fixture;
    std::map<std::string, std::string> environment{
        {"LD_LIBRARY_PATH", NSS_MODULES}, {"FDBROKER_TEST_DIRECTORY", fixture.directory / "directory"}};

    explicit Directory(Fixture& in) : fixture(in) {
        write_file(fixture.directory / "nsswitch.conf", "passwd: files fdbtest\ngroup: files fdbtest\n");
        make_directory(fixture.directory / "h");
        for (const char* name : {"dora", "gone", "newguy"}) {
            make_directory(fixture.directory / ("h/" + std::string(name)));
            write_file(own(name), "content", {.mode = 0600});
        }
        has("");
    }
    void has(const std::string& lines) const {
        write_file(fixture.directory / "directory", lines, {.mode = 0644});
    }
    std::string own(const std::string& user) const { return fixture.directory / ("h/" + user + "/a"); }
    std::string policy() const { return replace_all(names_policy, "@", fixture.directory.path().string()); }
    Outcome openerctl(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), {openerctl_program(), "--control", fixture.control().string()});
        return run({.arguments = std::move(arguments), .environment = environment});
    }
};

void with_directory(const std::function<void(Fixture&, Directory&)>& body) {
    in_namespace([&](Fixture& fixture) {
        Directory directory(fixture);
        body(fixture, directory);
    });
}

TestPeer peer_of(const Identity& identity, const RunningOpener& opener) {
    REQUIRE(::setegid(identity.gid) == 0);
    REQUIRE(::seteuid(identity.uid) == 0);
    TestPeer peer(opener.socket());
    REQUIRE(::seteuid(0) == 0);
    REQUIRE(::setegid(0) == 0);
    return peer;
}

}  // namespace

TEST_CASE(
    "accounts: a directory that enumerates nobody names its peers, for the broker as for explain and tests") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    with_directory([](Fixture& fixture, Directory& directory) {
        directory.has("dora 40009\n");
        const std::string policy =
            directory.policy() + "tests:\n  - {as: {user: dora}, read: " + fixture.file() +
            ", expect: allow, rule: dora}\n  - {as: {user: 40009}, read: " + directory.own("dora") +
            ", expect: allow, rule: own}\n";
        RunningOpener opener(fixture.directory, policy, {}, directory.environment);
        TestPeer peer = peer_of({.uid = dora, .gid = dora}, opener);
        CHECK(peer.open(fixture.file()).status == 0);
        CHECK(peer.open(directory.own("dora")).status == 0);
        CHECK(peer.open(directory.own("gone")).status == EACCES);
        // A helper decides by the same name.
        const std::string made = fixture.directory / "h/dora/made";
        CHECK(peer.call({.call = proto::Call::mkdir, .path = made}).status == 0);
        const auto records = opener.wait_for_event("session-start");
        CHECK(records.back()["peer"]["user"] == "dora");
        for (const char* who : {"dora", "40009"}) {
            CHECK(directory.openerctl({"policy", "explain", "--as", who, "read", fixture.file()}).status ==
                  0);
            CHECK(directory.openerctl({"policy", "explain", "--as", who, "read", directory.own("gone")})
                      .status == 1);
        }
        CHECK(directory.openerctl({"policy", "test", opener.policy()}).status == 0);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("accounts: a peer keeps the name it had when connecting, over reloads and crashes") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    with_directory([](Fixture& fixture, Directory& directory) {
        fixture.have({{"dora", alice}, {"gone", dora}});
        RunningOpener opener(fixture.directory, directory.policy(), {}, directory.environment);
        // The number is another's by now: nobody has to reload for that.
        fixture.have({{"dora", alice}, {"newguy", dora}});
        TestPeer peer = peer_of({.uid = dora, .gid = dora}, opener);
        CHECK(peer.open(directory.own("newguy")).status == 0);
        CHECK(peer.open(directory.own("gone")).status == EACCES);
        fixture.have({{"dora", alice}});
        REQUIRE(::kill(opener.broker(), SIGKILL) == 0);
        CHECK(peer.open(directory.own("newguy")).status == 0);
        CHECK(directory.openerctl({"reload"}).status == 0);
        CHECK(peer.open(directory.own("newguy")).status == 0);
    });
}

TEST_CASE(
    "accounts: a directory that hangs or fails leaves its peers without a name, and delays nobody else") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    with_directory([](Fixture& fixture, Directory& directory) {
        fixture.have({{"dora", dora}});
        std::string strangers = "? 40010\n! 40011\n";
        constexpr uid_t first_stranger = 41000, last_stranger = 41039;
        for (uid_t uid = first_stranger; uid <= last_stranger; ++uid)
            strangers += "? " + std::to_string(uid) + "\n";
        directory.has(strangers);
        RunningOpener opener(fixture.directory, directory.policy(), {}, directory.environment);
        CHECK(peer_of({.uid = dora, .gid = dora}, opener).open(directory.own("dora")).status == 0);

        TestPeer hanging = peer_of({.uid = forty, .gid = forty}, opener);
        REQUIRE(hanging.ask({fixture.file(), directory.own("dora")}));
        std::vector<TestPeer> others;
        for (uid_t uid = first_stranger; uid <= last_stranger; ++uid)
            others.push_back(peer_of({.uid = uid, .gid = uid}, opener));
        // Another group, so that no answer is at hand.
        CHECK(peer_of({.uid = dora, .gid = 7}, opener).open(directory.own("dora")).status == 0);
        CHECK_FALSE(is_readable_now(hanging.socket()));
        CHECK(ControlPeer(fixture.control()).ask("echo here") == "here");

        CHECK(peer_of({.uid = 40011, .gid = 40011}, opener).open(directory.own("dora")).status == EACCES);
        const auto answers = hanging.answers(2);
        CHECK(answers[0].status == 0);
        CHECK(answers[1].status == EACCES);
        opener.process().wait_for_error("the account database does not answer");
        CHECK(ControlPeer(fixture.control()).ask_json("status --json")["unanswered_names"] >= 2);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("accounts: the process that looks names up has no privileges, and is replaced when it dies") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    with_directory([](Fixture& fixture, Directory& directory) {
        fixture.have({{"dora", dora}});
        RunningOpener opener(fixture.directory, directory.policy(), {}, directory.environment);
        CHECK(peer_of({.uid = dora, .gid = dora}, opener).open(directory.own("dora")).status == 0);
        const pid_t service = children_of(opener.process().pid()).front();
        REQUIRE(service != opener.broker());
        const std::string status = read_file("/proc/" + std::to_string(service) + "/status");
        CHECK(status.find("CapEff:\t0000000000000000\n") != std::string::npos);
        CHECK(status.find("NoNewPrivs:\t1\n") != std::string::npos);
        CHECK(status.find("Uid:\t0") == std::string::npos);
        const proto::UniqueFd end = end_of(service);
        REQUIRE(::kill(service, SIGKILL) == 0);
        wait_readable(end.borrow());
        opener.process().wait_for_error("another one follows");
        // Another group, so that no answer is at hand.
        CHECK(peer_of({.uid = dora, .gid = 8}, opener).open(directory.own("dora")).status == 0);
    });
}

// ---- the broker's own uid --------------------------------------------------------------------------------

TEST_CASE("accounts: a peer that has the broker's uid is refused, and the next broker has another") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    in_namespace([](Fixture& fixture) {
        RunningOpener opener(fixture.directory,
                             "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" +
                                 (fixture.directory / "data").string() + "/**\"]}\n");
        const auto uid_of_broker = [&] {
            return ControlPeer(fixture.control())
                .ask_json("status --json")["confinement"]["uid"]
                .get<uid_t>();
        };
        const uid_t before = uid_of_broker();
        TestPeer peer(opener.socket());
        run_as(before, [&] {
            CHECK(TestPeer(opener.socket()).wait_for_end() ==
                  "the peer runs as uid " + std::to_string(before) +
                      ", which is the broker's: such a process could end the broker");
        });
        opener.wait_for_event("session-refused", 1);
        opener.process().wait_for_error("runs as uid " + std::to_string(before) + ", which is the broker's");
        opener.wait_for_event("start", 2);
        CHECK(uid_of_broker() != before);
        CHECK(peer.open(fixture.file()).status == 0);
        CHECK(status_as({.uid = before, .gid = before}, opener, fixture.file()) == 0);
    });
}

TEST_CASE("accounts: the account fdbroker comes first, and is refused as a peer as well") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    in_namespace([](Fixture& fixture) {
        constexpr uid_t own = 40777;
        fixture.have({{"fdbroker", own}});
        RunningOpener opener(fixture.directory,
                             "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" +
                                 (fixture.directory / "data").string() + "/**\"]}\n");
        run_as(own, [&] { TestPeer(opener.socket()).wait_for_end(); });
        opener.process().wait_for_error("runs as uid 40777");
        opener.wait_for_event("start", 2);
        const json status = ControlPeer(fixture.control()).ask_json("status --json");
        CHECK(status["confinement"]["uid"] == own);
        CHECK(status["confinement"]["user"] == "fdbroker");
    });
}
