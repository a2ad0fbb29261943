// SPDX-License-Identifier: MIT
// `opener --take-over`: the process of an opener executes its program anew, and its clients notice no more than a delay.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/integration/succession_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

// An opener whose program can be replaced, as by an upgrade.
struct Upgraded {
    ServedFile served{};
    std::filesystem::path program = served.directory / "opener";

    Upgraded() {
        install(opener_program());
        write_file(served.directory / "policy.yaml", served.policy);
    }
    // By a rename, as package managers do.
    void install(const std::filesystem::path& from) const {
        const std::filesystem::path fresh = served.directory / "opener.new";
        std::filesystem::copy_file(from, fresh);
        std::filesystem::rename(fresh, program);
    }
    std::string socket() const { return served.directory / "opener.sock"; }
    Process start(std::vector<std::string> more = {}) const {
        auto arguments = RunningOpener::arguments(served.directory, std::move(more));
        arguments[0] = program;
        Process process = Process::start({.arguments = std::move(arguments)});
        process.wait_for_error("serving");
        return process;
    }
    Outcome take_over(std::optional<Identity> identity = std::nullopt) const {
        return run(
            {.arguments = {opener_program(), "--take-over", "--control", served.directory / "control.sock"},
             .identity = std::move(identity)});
    }
    std::vector<json> records() const { return records_in(served.directory / "audit.jsonl"); }
};

ino_t program_of(const Process& process) {
    struct stat status{};
    REQUIRE(::stat(("/proc/" + std::to_string(process.pid()) + "/exe").c_str(), &status) == 0);
    return status.st_ino;
}

}  // namespace

TEST_CASE("take-over: the same process runs the new program, and no client is disconnected or unanswered") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    Process opener = upgraded.start();
    TestPeer idle(upgraded.socket());
    CHECK(idle.open(upgraded.served.file).status == 0);
    AskingPeers asking(upgraded.socket(), upgraded.served.file);
    for (const ino_t before = program_of(opener); program_of(opener) == before;) {
        asking.wait_for_answers(20);
        upgraded.install(opener_program());
        const Outcome outcome = upgraded.take_over();
        CAPTURE(outcome.err);
        REQUIRE(outcome.status == 0);
        CHECK(outcome.out.find("generation 2") != std::string::npos);
    }
    // And once more, from the one that has taken over.
    REQUIRE(upgraded.take_over().status == 0);
    asking.wait_for_answers(20);
    asking.stop();
    CHECK(idle.open(upgraded.served.file).status == 0);
    CHECK(TestPeer(upgraded.socket()).open(upgraded.served.file).status == 0);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    CHECK_FALSE(std::filesystem::exists(upgraded.socket()));
    const auto records = upgraded.records();
    CHECK(unexplained_numbers(records) == "");
    CHECK(count_events(records, "start") == 3);
    CHECK(count_events(records, "session-start") == 6);
}

TEST_CASE("take-over: a program that cannot take over changes nothing, and the reason is told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    Process opener = upgraded.start();
    TestPeer peer(upgraded.socket());
    CHECK(peer.open(upgraded.served.file).status == 0);
    SUBCASE("since the policy is invalid by now") {
        write_file(upgraded.served.directory / "policy.yaml", "nonsense");
        const Outcome outcome = upgraded.take_over();
        CHECK(outcome.status == 3);
        CHECK(outcome.err.find("policy.yaml:1:1:") != std::string::npos);
    }
    SUBCASE("since it is none") {
        upgraded.install("/bin/false");
        CHECK(upgraded.take_over().status == 1);
    }
    SUBCASE("since it is gone") {
        std::filesystem::remove(upgraded.program);
        const Outcome outcome = upgraded.take_over();
        CHECK(outcome.status == 1);
        CHECK(outcome.err.find("No such file") != std::string::npos);
    }
    CHECK(peer.open(upgraded.served.file).status == 0);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    CHECK(count_events(upgraded.records(), "start") == 1);
}

TEST_CASE("take-over: a program that goes between trial and execution leaves the opener as it is") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    // A program that is there for its trial alone.
    const std::string trial = upgraded.served.directory / "trial";
    write_file(trial, "#!/bin/sh\nrm -f \"$0\"\nexit 0\n", {.mode = 0755});
    Process opener = upgraded.start();
    TestPeer peer(upgraded.socket());
    CHECK(peer.open(upgraded.served.file).status == 0);
    upgraded.install(trial);
    const Outcome outcome = upgraded.take_over();
    CHECK(outcome.status == 1);
    opener.wait_for_error("the opener goes on");
    CHECK(peer.open(upgraded.served.file).status == 0);
    CHECK(TestPeer(upgraded.socket()).open(upgraded.served.file).status == 0);
    upgraded.install(opener_program());
    CHECK(upgraded.take_over().status == 0);
    CHECK(peer.open(upgraded.served.file).status == 0);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    CHECK(unexplained_numbers(upgraded.records()) == "");
}

TEST_CASE("take-over: lines of a worker reach the log of the program that follows, and the worker stays") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    const std::string go = upgraded.served.directory / "go";
    Process opener = upgraded.start({"--workers", "crew=1", "--worker-user", "nobody", "--", "/bin/sh", "-c",
                                     "echo first of $$; until [ -e " + go +
                                         " ]; do sleep 0.05; done; "
                                         "echo second of $$; exec sleep 1000"});
    opener.wait_for_error("opener: crew: first of ");
    REQUIRE(upgraded.take_over().status == 0);
    write_file(go, "");
    opener.wait_for_error("opener: crew: second of ");
    opener.signal(SIGTERM);
    const std::string err = opener.wait().err;
    const auto worker = [&](const std::string& word) {
        const std::size_t start = err.find("opener: crew: " + word + " of ") + 18 + word.size();
        return err.substr(start, err.find('\n', start) - start);
    };
    CHECK(worker("first") == worker("second"));
    CHECK(err.find("started again") == std::string::npos);
}

TEST_CASE("take-over: root alone asks for it, at a control socket that is there") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    Process opener = upgraded.start({"--control-group", "daemon"});
    std::filesystem::permissions(upgraded.served.directory / "control.sock", std::filesystem::perms(0666));
    const auto of_group = upgraded.take_over(Identity{some_user, 1});
    CHECK(of_group.status == 1);
    CHECK(of_group.err.find("only root") != std::string::npos);
    CHECK(run({.arguments = {opener_program(), "--take-over", "--control", "none"}}).status == 2);
    CHECK(run({.arguments = {opener_program(), "--take-over", "--control", "/nonexistent/socket"}}).status ==
          4);
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    CHECK(count_events(upgraded.records(), "start") == 1);
}

TEST_CASE("take-over: workers of the opener go on, and are looked after") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Upgraded upgraded;
    const std::string go = upgraded.served.directory / "go";
    make_directory(upgraded.served.directory / "out", {.mode = 0777});
    // Each worker asks once it may, and lives on.
    const std::string script = "until [ -e " + go +
                               " ]; do read -t 0.01 x <> /dev/fd/0 2>/dev/null || true; done; " +
                               worker_program() + " cat " + upgraded.served.file + " > " +
                               (upgraded.served.directory / "out").string() + "/$$; exec sleep 1000";
    Process opener =
        upgraded.start({"--workers", "pool=2", "--worker-user", "nobody", "--", "/bin/bash", "-c", script});
    ControlPeer control(upgraded.served.directory / "control.sock");
    const auto pids = [&] {
        std::vector<pid_t> found;
        const json answer =
            ControlPeer(upgraded.served.directory / "control.sock").ask_json("workers --json");
        for (const json& one : answer.at("workers")) found.push_back(one.at("pid"));
        return found;
    };
    const auto before = pids();
    REQUIRE(before.size() == 2);
    CHECK(upgraded.take_over().status == 0);
    CHECK(pids() == before);
    write_file(go, "");
    for (const pid_t pid : before)
        wait_for_text(upgraded.served.directory / "out" / std::to_string(pid), "content");
    // The opener that took over starts an ended worker again.
    ::kill(before[0], SIGKILL);
    opener.wait_for_error("it is started again");
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
    CHECK(::kill(before[1], 0) != 0);
}
