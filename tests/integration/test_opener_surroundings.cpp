// SPDX-License-Identifier: MIT
// Limits, capabilities and namespaces that others have set for the opener or its clients: what fails for them says so.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "tests/integration/opener_support.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// Asks until a request ends like this.
void ask_until(TestPeer& peer, const std::string& file, int status) {
    const Deadline deadline = in_good_time();
    while (peer.open(file).status != status) REQUIRE(std::chrono::steady_clock::now() < deadline);
}

void limit_file_size(pid_t pid, rlim_t size) {
    const rlimit limit{.rlim_cur = size, .rlim_max = RLIM_INFINITY};
    REQUIRE(::prlimit(pid, RLIMIT_FSIZE, &limit, nullptr) == 0);
}

// The opener by way of another program that sets something for it, until it ends.
Outcome run_by(std::vector<std::string> arguments, const ServedFile& served) {
    write_file(served.directory / "policy.yaml", served.policy);
    for (std::string& argument : RunningOpener::arguments(served.directory, {}))
        arguments.push_back(std::move(argument));
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("opener: a limit on the size of files stops grants as a full disk does, and ends nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile served;
    RunningOpener opener(served.directory, served.policy);
    TestPeer peer(opener.socket());
    limit_file_size(opener.process().pid(), 16384);
    ask_until(peer, served.file, EIO);
    CHECK(peer.open("/etc/shadow").status == EACCES);
    limit_file_size(opener.process().pid(), RLIM_INFINITY);
    ask_until(peer, served.file, 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("opener: too few descriptors to start with are status 1 and named") {
    const ServedFile served;
    const Outcome outcome = run_by({"sh", "-c", "ulimit -n 16; exec \"$@\"", "sh"}, served);
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.err, "ulimit -n"));
}

TEST_CASE("opener: a capability that a container has not given is named") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile served;
    const Outcome outcome = run_by({"setpriv", "--bounding-set", "-dac_read_search"}, served);
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.err, "CAP_DAC_READ_SEARCH is missing"));
    CHECK_FALSE(contains(outcome.err, "No child processes"));
}

TEST_CASE("worker: in a user namespace it says that root may show as the overflow uid") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(
        run({.arguments = {"unshare", "--user", "true"}, .identity = Identity{some_user, some_user}})
                .status == 0,
        "needs user namespaces for everyone");
    const ServedFile served;
    RunningOpener opener(served.directory, served.policy);
    const auto cat = [&](std::vector<std::string> arguments) {
        for (const std::string& argument : {worker_program(), std::string("--socket"),
                                            opener.socket().string(), std::string("cat"), served.file})
            arguments.push_back(argument);
        return run({.arguments = arguments, .identity = Identity{some_user, some_user}});
    };
    CHECK(cat({"env"}).out == "content");
    const Outcome refused = cat({"unshare", "--user"});
    CHECK(refused.status == 4);
    CAPTURE(refused.err);
    CHECK(contains(refused.err, "root shows as the overflow uid"));
    CHECK(opener.stop() == 0);
}
