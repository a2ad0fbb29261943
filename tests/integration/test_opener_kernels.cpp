// SPDX-License-Identifier: MIT
// The opener on kernels and in containers that lack something, faked by a filter (missing_calls.hpp).
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "tests/integration/missing_calls.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// asm-generic/socket.h of newer kernels than the headers may be.
constexpr int so_peerpidfd = 77;

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = directory / "data/secret";
    std::string policy = "version: 1\nrules:\n  - name: data\n    allow: [read]\n    paths: [\"" +
                         (directory / "data").string() + "/**\"]\n";

    Fixture() {
        make_directory(directory / "data");
        write_file(file, "secret", {.mode = 0600});
        write_file(directory / "policy.yaml", policy);
    }
    Outcome run(std::vector<std::string> more) const {
        return test::run({.arguments = RunningOpener::arguments(directory, std::move(more))});
    }
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

const std::vector<MissingCall> no_mount_namespace = {{SCMP_SYS(unshare), EPERM}};
const std::vector<MissingCall> no_landlock = {{SCMP_SYS(landlock_create_ruleset), ENOSYS}};

}  // namespace

TEST_CASE(
    "old kernels: without mount namespaces Landlock stands in, which is said, and --require-confinement "
    "refuses") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away(no_mount_namespace);
        const Outcome check = fixture.run({"--check"});
        CHECK(check.status == 0);
        CHECK(contains(check.out, "private root: MISSING"));
        CHECK(contains(check.out, "Landlock: enforced"));
        CHECK(fixture.run({"--check", "--require-confinement"}).status == 1);
        const Outcome refused = fixture.run({"--require-confinement"});
        CHECK(refused.status == 1);
        CHECK(contains(refused.err, "--require-confinement"));
        CHECK(contains(refused.err, "private root"));

        RunningOpener opener(fixture.directory, fixture.policy);
        CHECK(contains(opener.process().wait_for_error("serving"),
                       "confined less than it could be: private root"));
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.file).content() == "secret");
        CHECK(peer.open("/etc/shadow").status == EACCES);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("old kernels: without Landlock the private root alone holds the broker, which is said") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const Fixture fixture;
    run_in_child([&] {
        take_away(no_landlock);
        CHECK(fixture.run({"--require-confinement"}).status == 1);
        RunningOpener opener(fixture.directory, fixture.policy);
        CHECK(contains(opener.process().wait_for_error("serving"),
                       "confined less than it could be: Landlock: landlock_create_ruleset"));
        CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    });
}

TEST_CASE("old kernels: with neither it serves and says so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away(no_mount_namespace);
        take_away(no_landlock);
        RunningOpener opener(fixture.directory, fixture.policy);
        CHECK(contains(opener.process().wait_for_error("serving"), "Landlock"));
        CHECK(TestPeer(opener.socket()).open(fixture.file).status == 0);
    });
}

TEST_CASE("old kernels: without SO_PEERPIDFD peers are known by their other credentials") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away({{SCMP_SYS(getsockopt), ENOPROTOOPT, {{2, so_peerpidfd}}}});
        int pidfd = -1;
        socklen_t size = sizeof pidfd;
        CHECK(::getsockopt(0, SOL_SOCKET, so_peerpidfd, &pidfd, &size) < 0);
        RunningOpener opener(fixture.directory, fixture.policy);
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.file).status == 0);
        CHECK(opener.wait_for_event("request").back()["peer"]["pid"] == ::getpid());
    });
}

TEST_CASE(
    "old kernels: without SO_PASSRIGHTS a peer that sends descriptors ends its session and leaves none "
    "behind") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away({{SCMP_SYS(setsockopt), ENOPROTOOPT, {{2, proto::so_passrights}}}});
        RunningOpener opener(fixture.directory, fixture.policy);
        TestPeer good(opener.socket());
        CHECK(good.open(fixture.file).status == 0);
        // The file just sent is closed by the time the next request is served.
        CHECK(good.open("/etc/shadow").status == EACCES);
        const auto before = DescriptorTable::of(opener.broker());
        for (const std::size_t count : {1U, 2U, 253U}) {
            TestPeer sender(opener.socket());
            std::array<std::byte, 64> hello;
            const std::size_t size = proto::write_hello(hello);
            const std::vector<proto::BorrowedFd> mine(count, proto::BorrowedFd(STDIN_FILENO));
            REQUIRE(proto::send(sender.socket(), std::span(hello).first(size), mine, proto::Wait::block));
            CHECK(sender.wait_for_end() != "");
        }
        opener.wait_for_event("session-end", 3);
        CHECK(DescriptorTable::of(opener.broker()).changes_since(before) == "");
        CHECK(good.open(fixture.file).status == 0);
    });
}

TEST_CASE("old kernels: without openat2 it does not start, and says why") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_child([&] {
        take_away({{SCMP_SYS(openat2), ENOSYS}});
        for (const auto& more : {std::vector<std::string>{"--check"}, std::vector<std::string>{}}) {
            const Outcome outcome = fixture.run(more);
            CHECK(outcome.status == 1);
            CHECK(contains(outcome.err, "openat2"));
            CHECK(!std::filesystem::exists(fixture.directory / "opener.sock"));
        }
    });
}
