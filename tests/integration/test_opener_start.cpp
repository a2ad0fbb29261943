// SPDX-License-Identifier: MIT
// Starting the opener: what it makes of its command line, its policy and its sockets, good and bad.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "opener/base/build_config.hpp"
#include "proto/address.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* release_policy = R"(version: 1
rules:
  - name: release
    allow: [read]
    paths: [/usr/lib/os-release]
)";

Outcome run_opener(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {opener_program(), "--control", "none"});
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("opener: a policy that is not there is status 3, named, and followed by how to begin") {
    const std::vector<std::string> policy{"--policy", "/nonexistent/policy.yaml"};
    for (const bool check : {true, false}) {
        auto arguments = policy;
        if (check) arguments.emplace_back("--check");
        const Outcome outcome = run_opener(std::move(arguments));
        CHECK(outcome.status == 3);
        CHECK(contains(outcome.err, "policy: /nonexistent/policy.yaml: No such file"));
        CHECK(contains(outcome.err, "begin with one of " FDBROKER_EXAMPLES));
    }
}

TEST_CASE("opener: a policy alone is enough: directories of sockets and records are made") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and a mount namespace");
    const TempDir directory{TempDir::Place::var_tmp};
    write_file(directory / "policy.yaml", release_policy);
    run_in_mount_namespace([&] {
        for (const char* place : {"/run", "/var/log"})
            REQUIRE(::mount("fresh", place, "tmpfs", 0, "mode=0755") == 0);
        Process opener =
            Process::start({.arguments = {opener_program(), "--policy", directory / "policy.yaml"}});
        opener.wait_for_error("serving");
        CHECK(std::filesystem::is_socket("/run/fdbroker/opener.sock"));
        CHECK(std::filesystem::is_socket("/run/fdbroker/control.sock"));
        CHECK(std::filesystem::status("/var/log/fdbroker").permissions() == std::filesystem::perms(0750));
        opener.signal(SIGTERM);
        CHECK(opener.wait().status == 0);
        CHECK(read_file("/var/log/fdbroker/audit.jsonl").find("\"start\"") != std::string::npos);
    });
}

TEST_CASE("opener: messages do nothing to a terminal") {
    const TempDir directory;
    const std::string name = directory /
                             "p\x1b[2J\xc2\x9b"
                             "2J\x9b.yaml";
    for (const char* what :
         {"", "version: 1\nrules: [{name: a, allow: [read], paths: [\"/srv/a\\u009b/**\"]}]\n"}) {
        if (*what != '\0') write_file(name, what);
        const Outcome outcome = run({.arguments = {opener_program(), "--check", "--policy", name}});
        CHECK(outcome.out.find_first_of("\x1b\x9b") == std::string::npos);
        CHECK(outcome.err.find_first_of("\x1b\x9b") == std::string::npos);
        CHECK(contains(*what == '\0' ? outcome.err : outcome.out, "p\\x1b[2J\\xc2\\x9b2J\\x9b.yaml"));
    }
}

TEST_CASE("opener: an invalid policy is status 3 with the place of every error, at --check and at a start") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml",
               "version: 1\nrules:\n  - name: site\n    allow: [reed]\n    paths: [srv]\n");
    for (const auto& more : {std::vector<std::string>{"--check"}, std::vector<std::string>{}}) {
        const Outcome outcome = run({.arguments = RunningOpener::arguments(directory, more)});
        CHECK(outcome.status == 3);
        CHECK(contains(outcome.err, directory / "policy.yaml:4:13: "));
        CHECK(contains(outcome.err, "\"reed\""));
        CHECK(contains(outcome.err, "policy.yaml:5:13: "));
        CHECK(!std::filesystem::exists(directory / "opener.sock"));
    }
}

TEST_CASE("opener: a policy that others may write is refused with what to do") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy, {.mode = 0666});
    const Outcome outcome = run_opener({"--policy", directory / "policy.yaml", "--check"});
    CHECK(outcome.status == 3);
    CHECK(contains(outcome.err, "policy.yaml"));
    CHECK(contains(outcome.err, "chmod"));
}

TEST_CASE("opener: wrong usage is status 2, and says what is wrong") {
    const TempDir directory;
    const std::string long_path = directory / std::string(120, 'x');
    const struct {
        std::vector<std::string> arguments;
        const char* part;
    } cases[] = {
        {{"--no-such-option"}, "--no-such-option"},
        {{"--listen", long_path}, "107"},
        {{"--listen", ""}, "--listen"},
        {{"--listen", "fd:x"}, "fd:x"},
        {{"--listen", "/run/a", "--listen", "/run/b"}, "NAME=ADDRESS"},
        {{"--listen", "a=/run/a", "--listen-mode", "b=0600"}, "\"b\""},
        {{"--listen-mode", "0999"}, "0999"},
        {{"--audit", "relative"}, "relative"},
    };
    for (const auto& one : cases) {
        const Outcome outcome = run_opener(one.arguments);
        CAPTURE(outcome.err);
        CHECK(outcome.status == 2);
        CHECK(contains(outcome.err, one.part));
        CHECK(outcome.err.starts_with("opener: "));
    }
}

TEST_CASE("opener: --help and --version succeed on standard output") {
    const Outcome help = run_opener({"--help"});
    CHECK(help.status == 0);
    CHECK(contains(help.out, "--require-confinement"));
    const Outcome version = run_opener({"--version"});
    CHECK(version.status == 0);
    CHECK(contains(version.out, FDBROKER_VERSION));
}

TEST_CASE("opener: an unknown --user is status 1 and named") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy);
    const Outcome outcome =
        run({.arguments = RunningOpener::arguments(directory, {"--user", "no-such-user"})});
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.err, "no-such-user"));
    CHECK(!std::filesystem::exists(directory / "opener.sock"));
}

TEST_CASE("opener: a directory or an audit file that cannot be used is status 1 and named") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy);
    const Outcome no_directory =
        run_opener({"--policy", directory / "policy.yaml", "--listen", directory / "missing/opener.sock"});
    CHECK(no_directory.status == 1);
    CHECK(contains(no_directory.err, "missing"));
    const Outcome no_audit =
        run_opener({"--policy", directory / "policy.yaml", "--listen", directory / "opener.sock", "--audit",
                    directory / "missing/audit.jsonl"});
    CHECK(no_audit.status == 1);
    CHECK(contains(no_audit.err, "missing/audit.jsonl"));
    CHECK(!std::filesystem::exists(directory / "opener.sock"));
}

TEST_CASE("opener: a socket that somebody serves is not stolen, one that nobody serves is replaced") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    {
        RunningOpener first(directory, release_policy);
        const Outcome second = run({.arguments = RunningOpener::arguments(directory, {})});
        CHECK(second.status == 1);
        CHECK(contains(second.err, "opener.sock"));
        TestPeer peer(first.socket());
        CHECK(peer.open("/usr/lib/os-release").status == 0);
        first.process().signal(SIGKILL);
        first.process().wait();
    }
    CHECK(std::filesystem::exists(directory / "opener.sock"));
    RunningOpener next(directory, release_policy);
    TestPeer peer(next.socket());
    CHECK(peer.open("/usr/lib/os-release").status == 0);
    CHECK(next.stop() == 0);
    CHECK(!std::filesystem::exists(directory / "opener.sock"));
}

TEST_CASE("opener: a file that is no socket stays where it is") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy);
    write_file(directory / "opener.sock", "precious");
    const Outcome outcome = run({.arguments = RunningOpener::arguments(directory, {})});
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.err, "not a socket"));
    CHECK(read_file(directory / "opener.sock") == "precious");
}

TEST_CASE("opener: a socket that another opener has put in its place is not removed at the end") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    RunningOpener opener(directory, release_policy);
    std::filesystem::rename(directory / "opener.sock", directory / "old.sock");
    write_file(directory / "opener.sock", "another's");
    CHECK(opener.stop() == 0);
    CHECK(read_file(directory / "opener.sock") == "another's");
}

TEST_CASE("opener: the socket has the mode and group that were asked for") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy);
    Process process = Process::start(
        {.arguments = {opener_program(), "--control", "none", "--policy", directory / "policy.yaml",
                       "--audit", "none", "--listen", "a=" + (directory / "a.sock").string(), "--listen",
                       "b=" + (directory / "b.sock").string(), "--listen-mode", "0600", "--listen-mode",
                       "b=0660", "--listen-group", "b=adm"}});
    process.wait_for_error("b.sock");
    struct stat a{}, b{};
    REQUIRE(::stat((directory / "a.sock").c_str(), &a) == 0);
    REQUIRE(::stat((directory / "b.sock").c_str(), &b) == 0);
    CHECK((a.st_mode & 07777) == 0600);
    CHECK((b.st_mode & 07777) == 0660);
    CHECK(a.st_gid == 0);
    CHECK(b.st_gid == 4);
    process.signal(SIGTERM);
    CHECK(process.wait().status == 0);
}

TEST_CASE("opener: an abstract name and an inherited socket are served, and nothing else is taken for one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(directory / "policy.yaml", release_policy);
    const std::string name = "@fdbroker-test-" + directory.path().filename().string();

    const proto::UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto address = proto::Address::parse((directory / "inherited.sock").string())->socket_name();
    REQUIRE(::bind(listener.number(), reinterpret_cast<const sockaddr*>(&address.address), address.size) ==
            0);
    REQUIRE(::listen(listener.number(), 5) == 0);

    Process process = Process::start(
        {.arguments = {opener_program(), "--control", "none", "--policy", directory / "policy.yaml",
                       "--audit", "none", "--listen", "abstract=" + name, "--listen", "inherited=fd:7"},
         .descriptors = {{7, listener.borrow()}}});
    process.wait_for_error("fd:7");
    CHECK(TestPeer(name).open("/usr/lib/os-release").status == 0);
    CHECK(TestPeer(directory / "inherited.sock").open("/usr/lib/os-release").status == 0);
    process.signal(SIGTERM);
    CHECK(process.wait().status == 0);
    CHECK(std::filesystem::exists(directory / "inherited.sock"));  // not the opener's to remove

    const Outcome not_listening = run({.arguments = {opener_program(), "--control", "none", "--policy",
                                                     directory / "policy.yaml", "--listen", "fd:0"}});
    CHECK(not_listening.status == 1);
    CHECK(contains(not_listening.err, "fd:0"));
}

TEST_CASE("opener: --check says what the broker would be confined to, and starts nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    write_file(
        directory / "policy.yaml",
        std::string(release_policy) + "  - {name: gone, allow: [read], paths: [\"/nonexistent/dir/**\"]}\n");
    const Outcome outcome = run({.arguments = RunningOpener::arguments(directory, {"--check"})});
    CHECK(outcome.status == 0);
    CHECK(contains(outcome.out, "valid, 2 rules"));
    CHECK(contains(outcome.out, "dac_read_search"));
    CHECK(contains(outcome.out, "/usr/lib"));
    CHECK(contains(outcome.out, "dormant: /nonexistent/dir"));
    CHECK(!std::filesystem::exists(directory / "opener.sock"));
    CHECK(!std::filesystem::exists(directory / "audit.jsonl"));
}

TEST_CASE("opener: started by another user than root it serves with that user's rights") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory;
    REQUIRE(::chown(directory.path().c_str(), some_user, some_user) == 0);
    write_file(directory / "mine", "mine", {.mode = 0600, .uid = some_user, .gid = some_user});
    write_file(directory / "roots", "root's", {.mode = 0600, .uid = 0});
    run_as(some_user, [&] {
        const std::string policy = "version: 1\nrules:\n  - name: all\n    allow: [read]\n    paths: [\"" +
                                   directory.path().string() + "/**\"]\n";
        RunningOpener opener(directory, policy);
        TestPeer peer(opener.socket());
        CHECK(peer.open(directory / "mine").content() == "mine");
        CHECK(peer.open(directory / "roots").status == EACCES);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("start: where standard error is the journal, each line begins with its priority") {
    const TempDir directory;
    write_file(directory / "policy.yaml", "version: 1\nrools: 1\nlimit: 2\n");
    unsigned starts = 0;
    const auto said = [&](const std::string& journal_stream) {
        // A process of the opener before may still be ending, with the socket open.
        const std::string socket = "@" + (directory / "s").string() + std::to_string(++starts);
        const std::string command = "exec 2>" + (directory / "said").string() +
                                    "; JOURNAL_STREAM=" + journal_stream + " exec " + opener_program() +
                                    " --listen " + socket + " --control none --audit none --policy " +
                                    (directory / "policy.yaml").string();
        CHECK(run({.arguments = {"sh", "-c", command}}).status == 3);
        return read_file(directory / "said");
    };
    const std::string marked = said("$(stat -Lc %d:%i /dev/fd/2)");
    CAPTURE(marked);
    CHECK(marked.starts_with("<3>" + (directory / "policy.yaml").string() + ":2:1: "));
    CHECK(marked.find("\n<3>" + (directory / "policy.yaml").string() + ":3:1: ") != std::string::npos);
    for (const char* other : {"1:1", "$(stat -Lc %d:%i /dev/fd/2)0", "x", "''"})
        CHECK(said(other).starts_with((directory / "policy.yaml").string()));
}
