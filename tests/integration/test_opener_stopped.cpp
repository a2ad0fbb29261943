// SPDX-License-Identifier: MIT
// Processes of an opener that somebody stops: they are replaced, whoever waits for them.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <csignal>
#include <string>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string data = directory / "data";
    std::string policy =
        "version: 1\nrules:\n  - {name: data, allow: [read, manage], paths: [\"" + data + "/**\"]}\n";

    Fixture() {
        make_directory(data);
        write_file(data + "/file", "content", {.mode = 0600});
    }
};

std::vector<pid_t> others(std::vector<pid_t> all, pid_t one) {
    std::erase(all, one);
    return all;
}

void stop_until_killed(RunningOpener& opener, const std::vector<pid_t>& processes) {
    for (const pid_t pid : processes) {
        REQUIRE(::kill(pid, SIGSTOP) == 0);
        wait_until_stopped(pid);
    }
    for (const pid_t pid : processes)
        opener.process().wait_for_error("process " + std::to_string(pid) + " of the opener has been stopped");
}

// A new peer needs a name, a new file a helper.
void check_served(const RunningOpener& opener, const Fixture& fixture) {
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/new", O_WRONLY | O_CREAT | O_EXCL).status == 0);
    CHECK(peer.open(fixture.data + "/file").content() == "content");
}

}  // namespace

TEST_CASE("stopped: zygotes that somebody stops are replaced with their generation") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const auto zygotes = others(children_of(opener.broker()), watcher_of(opener.broker()));
    CHECK(zygotes.size() == 2);
    stop_until_killed(opener, zygotes);
    opener.wait_for_event("start", 2);
    check_served(opener, fixture);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stopped: the watch of directories is replaced with its generation") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    stop_until_killed(opener, {watcher_of(opener.broker())});
    opener.wait_for_event("start", 2);
    check_served(opener, fixture);
    CHECK(opener.stop() == 0);
}

TEST_CASE("stopped: the process that looks up names is replaced, and the generation stays") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const auto names = others(children_of(opener.process().pid()), opener.broker());
    CHECK(names.size() == 1);
    stop_until_killed(opener, names);
    check_served(opener, fixture);
    CHECK(opener.count_events("start") == 1);
    CHECK(opener.stop() == 0);
}
