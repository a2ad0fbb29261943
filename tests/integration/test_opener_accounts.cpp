// SPDX-License-Identifier: MIT
// Accounts that policies name and peers have, while the database changes, loses some or does not answer.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
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

// Its accounts stand in place of those of /etc for everything that runs in the mount namespace of the test.
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

    // The users that there are, by name, each with a group of its name.
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

int status_as(uid_t uid, const RunningOpener& opener, const std::string& path) {
    int status = -1;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const proto::UniqueFd read_end(ends[0]), write_end(ends[1]);
    run_as(uid, [&] {
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
        // Who asks for the policy's files is told, and the policy in force stays.
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
            CHECK(status_as(alice, opener, fixture.file()) == EACCES);
            const json status = ControlPeer(fixture.control()).ask_json("status --json");
            REQUIRE(status["unknown_accounts"].size() == 1);
            CHECK(contains(status["unknown_accounts"][0], told));
            CHECK(contains(openerctl(fixture, {"status"}).out, told));
            // A replacement knows no more, though the account is there by now.
            fixture.have({{"alice", alice}});
            REQUIRE(::kill(opener.broker(), SIGKILL) == 0);
            CHECK(status_as(alice, opener, fixture.file()) == EACCES);
            CHECK(openerctl(fixture, {"reload"}).status == 0);
            CHECK(status_as(alice, opener, fixture.file()) == 0);
            CHECK(ControlPeer(fixture.control()).ask_json("status --json")["unknown_accounts"].empty());
        }
        fixture.have({});
        const Outcome checked = run({.arguments = RunningOpener::arguments(fixture.directory, {"--check"})});
        CHECK(checked.status == 0);
        CHECK(contains(checked.out, "account: "));
        CHECK(contains(checked.out, told));
    });
}
