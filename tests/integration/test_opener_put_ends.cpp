// SPDX-License-Identifier: MIT
// Puts through a real opener to their ends, whoever dies before, and on record.
#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "opener/quota/helper_limits.hpp"
#include "tests/integration/put_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Step;
using proto::UniqueFd;

TEST_CASE("put: nothing is left of one that is discarded, or whose session ends") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    CHECK(discard(peer, path, number).status == 0);
    CHECK(discard(peer, path, number).status == ESTALE);
    CHECK(commit(peer, path, number).status == ESTALE);
    // As many as may be, again and again: each session gives its own back.
    for (unsigned time = 0; time < 3; ++time) {
        TestPeer other(opener.socket());
        std::size_t begun = 0;
        const Deadline deadline = in_good_time();
        // The helpers of the session before may take a moment to end.
        while (begun < opener::max_background_helpers_of_user && milliseconds_until(deadline) > 0)
            begun += begin_put(other, path).answer.status == 0 ? 1U : 0U;
        CHECK(begun == opener::max_background_helpers_of_user);
        CHECK(begin_put(other, path).answer.status == EAGAIN);
    }
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
}

TEST_CASE("put: the number is of use to the session that made the put alone, and for that path alone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket()), other(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    for (const Call call : {Call::commit, Call::discard}) {
        CHECK(ask_about(other, call, path, number).status == ESTALE);
        CHECK(ask_about(peer, call, fixture.at("put/made"), number).status == ESTALE);
        CHECK(ask_about(peer, call, path, number + 1).status == ESTALE);
        CHECK(ask_about(peer, call, path, 0).status == ESTALE);
        CHECK(ask_about(peer, call, fixture.at("elsewhere"), number).step == Step::decide);
    }
    CHECK(fixture.content("put/file") == "old");
    CHECK(commit(peer, path, number).status == 0);
    CHECK(fixture.content("put/file") == "new");
}

TEST_CASE("put: a worker that is killed before the commit leaves the old file and no other name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    CHECK_THROWS(run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        filled(peer, path, "new");
        ::kill(::getpid(), SIGKILL);
    }));
    opener.wait_for_event("session-end");
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
}

TEST_CASE(
    "put: a broker that is killed takes unfinished ones along, and the next one knows nothing of them") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 2);
    CHECK(commit(peer, path, number).status == ESTALE);
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
    CHECK(replace(peer, path, "new") == 0);
    CHECK(fixture.content("put/file") == "new");
}

TEST_CASE("put: another policy knows nothing of what was begun under the one before") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    const UniqueFd before = end_of(opener.broker());
    opener.process().signal(SIGHUP);
    // Nor does its broker live on for what nobody can commit.
    wait_readable(before.borrow());
    CHECK(commit(peer, path, number).status == ESTALE);
    CHECK(fixture.content("put/file") == "old");
    CHECK(replace(peer, path, "new") == 0);
    CHECK(opener.count_events("transfer-failed") == 0);
}

TEST_CASE("put: an opener that is not root's replaces that user's files") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory(TempDir::Place::var_tmp);
    REQUIRE(::chown(directory.path().c_str(), some_user, some_user) == 0);
    write_file(directory / "mine", "old", {.mode = 0600, .uid = some_user, .gid = some_user});
    run_as(some_user, [&] {
        RunningOpener opener(directory, "version: 1\nrules:\n  - {name: all, allow: [modify], paths: [\"" +
                                            directory.path().string() + "/**\"]}\n");
        TestPeer peer(opener.socket());
        const int status = replace(peer, directory / "mine", "new");
        // linkat(2): before Linux 6.10 it takes CAP_DAC_READ_SEARCH to give an unnamed file its name.
        CHECK((status == 0 || (status == EOPNOTSUPP && !kernel_is_at_least(6, 10))));
        CHECK(read_file(directory / "mine") == (status == 0 ? "new" : "old"));
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("put: the put, the commit and the discard are on record, each once and told apart") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const Begun begun = begin_put(peer, path);
    const auto busy = commit(peer, path, begun.number);
    CHECK(busy.status == EBUSY);
    const auto discarded = discard(peer, path, begun.number);
    CHECK(discarded.status == 0);
    const auto records = opener.wait_for_event("request", 3);
    std::vector<nlohmann::json> decisions;
    for (const auto& record : records)
        if (record["event"] == "request") decisions.push_back(record);
    REQUIRE(decisions.size() == 3);
    for (const auto& decision : decisions) {
        CHECK(decision["path"] == path);
        CHECK(decision["rule"] == "put");
        CHECK(decision["operation"] == nlohmann::json{"write", "create", "truncate"});
    }
    CHECK(decisions[0]["seq"] == begun.answer.record);
    CHECK(decisions[0]["call"] == "put");
    CHECK(decisions[1]["seq"] == busy.record);
    CHECK(decisions[1]["call"] == "commit");
    CHECK(decisions[2]["seq"] == discarded.record);
    CHECK(decisions[2]["call"] == "discard");
}

TEST_CASE("put: worker put replaces a file by its input, makes one, and leaves one alone when told to") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    const std::string input(300'000, 'x');
    const auto worker_put = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {worker_program(), "--socket", opener.socket(), "put"});
        return run({.arguments = std::move(arguments),
                    .identity = Identity{.uid = some_user, .gid = some_user},
                    .input = input});
    };
    CHECK(worker_put({fixture.at("put/file")}).status == 0);
    CHECK(fixture.content("put/file") == input);
    CHECK(worker_put({"--new", fixture.at("put/made")}).status == 0);
    CHECK(fixture.content("put/made") == input);
    write_file(fixture.at("put/made"), "mine");
    const Outcome kept = worker_put({"--new", fixture.at("put/made")});
    CHECK(kept.status == 1);
    CHECK(kept.err.find("it is there already") != std::string::npos);
    CHECK(fixture.content("put/made") == "mine");
    CHECK(worker_put({fixture.at("small/file")}).status == 1);
    CHECK_FALSE(std::filesystem::exists(fixture.at("small/file")));
    CHECK(fixture.names("put") == 2);
    CHECK(fixture.names("small") == 0);
}
