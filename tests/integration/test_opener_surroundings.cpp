// SPDX-License-Identifier: MIT
// Limits, capabilities and namespaces that others have set for the opener or its clients: what fails for them says so.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cctype>
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
Outcome run_by(std::vector<std::string> arguments, const ServedFile& served, bool check = false) {
    write_file(served.directory / "policy.yaml", served.policy);
    for (std::string& argument : RunningOpener::arguments(served.directory, {}))
        arguments.push_back(std::move(argument));
    if (check) arguments.emplace_back("--check");
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string uppercase(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return text;
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

TEST_CASE(
    "opener: a start without a capability that it needs names it, at --check as well, and does not hang") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const ServedFile served;
    for (const std::string name : {"setuid", "setgid", "setpcap", "kill", "dac_read_search"}) {
        CAPTURE(name);
        for (const bool check : {false, true}) {
            const Outcome outcome = run_by({"setpriv", "--bounding-set", "-" + name}, served, check);
            CHECK(outcome.status == 1);
            CHECK(outcome.err.starts_with("opener: capabilities: CAP_" + uppercase(name) + " is missing"));
            CHECK(contains(outcome.err, "--cap-add " + uppercase(name)));
            CHECK(std::ranges::count(outcome.err, '\n') == 1);
        }
    }
    const Outcome both = run_by({"setpriv", "--bounding-set", "-kill,-setuid"}, served, true);
    CHECK(contains(both.err, "CAP_SETUID, CAP_KILL are missing"));
}

TEST_CASE(
    "opener: a start without a capability that only rules or layers need serves, and tells what fails") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    const struct {
        std::string missing;
        std::string private_root;
        std::string told;
    } cases[] = {
        {"-sys_admin", "MISSING: unshare: CLONE_NEWNS: Operation not permitted", "private root: unshare"},
        {"-fowner,-chown", "enforced",
         "the broker runs without chown, fowner, which this process does not have"},
        // The capabilities of docs/containers/compose.yaml.
        {"-all,+sys_admin,+setuid,+setgid,+setpcap,+kill,+sys_resource,+dac_read_search", "enforced",
         "the broker runs without chown, dac_override, fowner"},
        {"-sys_resource,-sys_chroot,-fsetid,-mknod,-lease,-sys_ptrace", "enforced", ""},
    };
    const ServedFile served;
    const std::string directory = served.directory / "made";
    make_directory(directory);
    const std::string policy = served.policy +
                               "  - {name: made, allow: [modify, setattr, mkdir], paths: [\"" + directory +
                               "/**\"], create: {owner: \"${user}\"}}\n";
    for (const auto& one : cases) {
        CAPTURE(one.missing);
        write_file(served.directory / "policy.yaml", policy);
        std::vector<std::string> arguments{"setpriv", "--bounding-set", one.missing};
        for (const std::string& argument : RunningOpener::arguments(served.directory, {}))
            arguments.push_back(argument);
        Process opener = Process::start({.arguments = arguments});
        opener.wait_for_error("serving");
        const std::string said = opener.wait_for_error(one.told);
        CHECK(contains(said, "the broker runs") == contains(one.told, "the broker runs"));
        CHECK(TestPeer(served.directory / "opener.sock").open(served.file).status == 0);
        arguments.emplace_back("--check");
        const Outcome check = run({.arguments = arguments});
        CHECK(check.status == 0);
        CHECK(contains(check.out, "layer private root: " + one.private_root));
        opener.signal(SIGTERM);
        CHECK(opener.wait().status == 0);
    }
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
