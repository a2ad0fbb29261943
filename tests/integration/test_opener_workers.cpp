// SPDX-License-Identifier: MIT
// Workers that the opener starts (--workers): their sockets, their ends, the opener's end.
#include <doctest/doctest.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <set>
#include <sstream>

#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// Workers named `crew` may read a file, nobody else. Each is a shell that reads the file by
// the real client, over the descriptor it inherited. The content goes into out/, a directory for everyone.
struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = (directory / "data/file").string();
    std::string out = (directory / "out").string();
    std::string policy =
        "version: 1\nroles:\n  crew: {sockets: [crew]}\nrules:\n"
        "  - {name: file, roles: [crew], allow: [read], paths: [\"" +
        file + "\"]}\n";

    Fixture() {
        make_directory(directory / "data");
        write_file(file, "content", {.mode = 0600});
        make_directory(out, {.mode = 01777});
        REQUIRE(::mkfifo((out + "/never").c_str(), 0644) == 0);
        REQUIRE(::chmod((out + "/never").c_str(), 0644) == 0);
    }
    std::vector<std::string> arguments(const std::string& number, const std::string& script,
                                       std::vector<std::string> more = {}) const {
        std::vector<std::string> all{"--workers", "crew=" + number, "--worker-user", "nobody"};
        all.insert(all.end(), more.begin(), more.end());
        for (const std::string& argument :
             {std::string("--"), std::string("/bin/sh"), std::string("-c"), script})
            all.push_back(argument);
        return all;
    }
    std::string path(const std::string& name) const { return out + "/" + name; }
};

// Waits without end and without another process: nobody ever writes to that FIFO.
std::string waiting(const Fixture& fixture) {
    return "while :; do read nothing < " + fixture.path("never") + "; done";
}

// Says so in out/started, lets the client have its socket and waits without end. The client ends confined, and
// LeakSanitizer needs /proc.
std::string reading_script(const Fixture& fixture) {
    return "trap 'echo $$ >> " + fixture.path("ended") + "; exit 0' TERM; " + worker_program() + " cat " +
           fixture.file + " > " + fixture.path("read.$$") + " 2>&1; echo $$ >> " + fixture.path("started") +
           "; " + waiting(fixture);
}

std::vector<pid_t> pids_in(const std::string& text) {
    std::istringstream lines(text);
    std::vector<pid_t> pids;
    for (pid_t pid = 0; lines >> pid;) pids.push_back(pid);
    return pids;
}

// Until so many lines are in a file of pids.
std::vector<pid_t> wait_for_pids(const std::string& path, std::size_t count) {
    return pids_in(wait_for_content(path, std::to_string(count) + " lines", [count](const std::string& text) {
        return static_cast<std::size_t>(std::ranges::count(text, '\n')) >= count;
    }));
}

}  // namespace

TEST_CASE("workers: each has a private socket by which roles know the pool, and nobody else has") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy, fixture.arguments("3", reading_script(fixture)));
    const auto pids = wait_for_pids(fixture.path("started"), 3);
    CHECK(std::set(pids.begin(), pids.end()).size() == 3);
    for (const pid_t pid : pids) {
        CHECK(read_file(fixture.path("read." + std::to_string(pid))) == "content");
        const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
        CHECK(status.find("Uid:\t65534\t65534\t65534\t65534") != std::string::npos);
        CHECK(status.find("CapEff:\t0000000000000000") != std::string::npos);
    }
    const auto records = opener.wait_for_event("request", 3);
    for (const auto& record : records) {
        if (record["event"] != "request") continue;
        CHECK(record["listener"] == "crew");
        CHECK(record["peer"]["uid"] == 65534);
    }
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == EACCES);
    CHECK(opener.stop() == 0);
}

TEST_CASE("workers: they and their connections stay over a reload and a crash") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string script = "while :; do " + worker_program() + " cat " + fixture.file + " > " +
                               fixture.path("next") + " 2>&1; mv " + fixture.path("next") + " " +
                               fixture.path("read") + "; echo $$ >> " + fixture.path("turns") + "; done";
    RunningOpener opener(fixture.directory, fixture.policy, fixture.arguments("1", script));
    wait_for_pids(fixture.path("turns"), 2);
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 1, "reload");
    std::size_t turns = pids_in(read_file(fixture.path("turns"))).size();
    wait_for_pids(fixture.path("turns"), turns + 3);
    CHECK(read_file(fixture.path("read")) == "content");
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 3);
    turns = pids_in(read_file(fixture.path("turns"))).size();
    const auto pids = wait_for_pids(fixture.path("turns"), turns + 3);
    CHECK(std::set(pids.begin(), pids.end()).size() == 1);
    CHECK(opener.stop() == 0);
}

TEST_CASE("workers: an ended worker is started again, and the opener ends them before itself") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy, fixture.arguments("2", reading_script(fixture)));
    auto pids = wait_for_pids(fixture.path("started"), 2);
    ::kill(pids[0], SIGKILL);
    pids = wait_for_pids(fixture.path("started"), 3);
    CHECK(read_file(fixture.path("read." + std::to_string(pids[2]))) == "content");
    CHECK(opener.process().wait_for_error("killed by signal 9; it is started again in 100 ms").size() > 0);
    CHECK(opener.stop() == 0);
    CHECK(pids_in(read_file(fixture.path("ended"))).size() == 2);
    for (const pid_t pid : pids) CHECK(::kill(pid, 0) != 0);
}

TEST_CASE("workers: a worker that ignores SIGTERM is killed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy,
                         fixture.arguments("1", "trap '' TERM; echo $$ >> " + fixture.path("started") + "; " +
                                                    waiting(fixture)));
    const pid_t pid = wait_for_pids(fixture.path("started"), 1).front();
    CHECK(opener.stop() == 0);
    CHECK(::kill(pid, 0) != 0);
}

TEST_CASE("workers: a worker that does not answer a check is killed, one that answers is left alone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    // The first to come answers for ever, the other never.
    const std::string script =
        "if mkdir " + fixture.path("first") + "; then echo $$ > " + fixture.path("good") +
        "; while dd bs=1 count=1 of=/dev/null <&4; do printf x >&4; echo >> " + fixture.path("answers") +
        "; done; else echo $$ >> " + fixture.path("mute") + "; " + waiting(fixture) + "; fi";
    RunningOpener opener(fixture.directory, fixture.policy,
                         fixture.arguments("2", script, {"--worker-watchdog", "1"}));
    wait_for_pids(fixture.path("mute"), 2);
    opener.process().wait_for_error("does not answer and is killed");
    wait_for_content(fixture.path("answers"), "3 answers",
                     [](const std::string& text) { return std::ranges::count(text, '\n') >= 3; });
    const auto good = pids_in(read_file(fixture.path("good")));
    CHECK(::kill(good.front(), 0) == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "workers: the socket on which one is asked takes no descriptors where the kernel has SO_PASSRIGHTS") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    constexpr int so_passrights = 83;
    const int off = 0;
    const proto::UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    FDBROKER_SKIP_UNLESS(::setsockopt(probe.number(), SOL_SOCKET, so_passrights, &off, sizeof off) == 0,
                         "needs SO_PASSRIGHTS (Linux 6.16)");
    const Fixture fixture;
    const std::string script =
        "exec python3 -c 'import socket\n"
        "asked = socket.socket(fileno=4)\n"
        "while asked.recv(1):\n"
        "    try:\n"
        "        socket.send_fds(asked, [b\"x\"], [1])\n"
        "        outcome = \"sent\"\n"
        "    except OSError as error:\n"
        "        outcome = error.strerror\n"
        "    print(outcome, file=open(\"" +
        fixture.path("outcome") + "\", \"w\"))\n'";
    RunningOpener opener(fixture.directory, fixture.policy,
                         fixture.arguments("1", script, {"--worker-watchdog", "1"}));
    wait_for_content(fixture.path("outcome"), "an outcome",
                     [](const std::string& text) { return text.ends_with('\n'); });
    CHECK(read_file(fixture.path("outcome")) == "Operation not permitted\n");
    CHECK(opener.stop() == 0);
}

TEST_CASE("workers: a command that does not exist is tried more and more slowly, and the opener serves") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy,
                         {"--workers", "1", "--worker-user", "nobody", "--", "/no/such/program"});
    opener.process().wait_for_error("started again in 100 ms");
    opener.process().wait_for_error("started again in 200 ms");
    opener.process().wait_for_error("started again in 400 ms");
    CHECK(TestPeer(opener.socket()).open(fixture.file).status == EACCES);
    CHECK(opener.stop() == 0);
}

TEST_CASE("workers: the environment is their user's and what --worker-env names, the directory is /") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string script = "{ pwd; env -0 | tr '\\0' '\\n' | sort; } > " + fixture.path("next") +
                               "; mv " + fixture.path("next") + " " + fixture.path("environment") + "; " +
                               waiting(fixture);
    // The opener itself has LC_ALL.
    std::vector<std::string> named{"--worker-env", "COLOUR=a=b", "--worker-env", "SHELL=/bin/none"};
    std::string passed;
    SUBCASE("nothing passed on") {}
    SUBCASE("a variable of the opener's passed on") {
        named.insert(named.end(), {"--worker-env", "LC_ALL"});
        passed = "LC_ALL=C.UTF-8\n";
    }
    RunningOpener opener(fixture.directory, fixture.policy, fixture.arguments("1", script, named));
    const std::string text = wait_for_content(fixture.path("environment"), "an environment",
                                              [](const std::string& content) { return !content.empty(); });
    CHECK(text == "/\nCOLOUR=a=b\nFDBROKER_FD=3\nHOME=" + std::string(::getpwnam("nobody")->pw_dir) + "\n" +
                      passed + "LOGNAME=nobody\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/\nSHELL=/bin/none\n" +
                      "USER=nobody\n");
    CHECK(opener.stop() == 0);
}

TEST_CASE("workers: root, an unknown user, no command and a name that is taken are refused") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml", fixture.policy);
    const auto status = [&](std::vector<std::string> more) {
        return run({.arguments = RunningOpener::arguments(fixture.directory, std::move(more))}).status;
    };
    CHECK(status({"--workers", "1", "--", "/bin/true"}) == 1);
    CHECK(status({"--workers", "1", "--worker-user", "root", "--", "/bin/true"}) == 1);
    CHECK(status({"--workers", "1", "--worker-user", "no-such-user", "--", "/bin/true"}) == 1);
    CHECK(status({"--workers", "1", "--worker-user", "nobody"}) == 2);
    CHECK(status({"--workers", "default=1", "--worker-user", "nobody", "--", "/bin/true"}) == 2);
    CHECK(status({"--workers", "257", "--worker-user", "nobody", "--", "/bin/true"}) == 2);
    CHECK(status({"--workers", "1", "--worker-user", "nobody", "--worker-env", "=value", "--",
                  "/bin/true"}) == 1);
    CHECK(status({"--workers", "1", "--worker-user", "nobody", "--worker-env", "NO_SUCH", "--",
                  "/bin/true"}) == 1);
    // Workers do not run where the opener was started.
    CHECK(status({"--workers", "1", "--worker-user", "nobody", "--", "./true"}) == 2);
    CHECK(status({"--worker-env", "NAME=VALUE"}) == 2);
    CHECK(status({"--worker-user", "nobody"}) == 2);
    CHECK(status({"--", "/bin/true"}) == 2);
}

TEST_CASE("workers: standard output and standard error are the pool's lines in the opener's log") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(
        fixture.directory, fixture.policy,
        fixture.arguments("1",
                          "echo 'to \033 output'; echo 'opener: forged' >&2; printf 'no end'; "
                          "echo $$ > " +
                              fixture.path("started") + "; " + waiting(fixture)));
    opener.process().wait_for_error("opener: crew: opener: forged\n");
    const std::string log = opener.process().wait_for_error("opener: crew: to \\x1b output\n");
    CHECK(log.find("\nopener: forged") == std::string::npos);
    wait_for_pids(fixture.path("started"), 1);
    opener.process().signal(SIGTERM);
    CHECK(opener.process().wait().err.find("opener: crew: no end\n") != std::string::npos);
}

TEST_CASE("workers: no worker holds the audit log on standard output, the opener's log or its terminal") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.directory / "policy.yaml", fixture.policy);
    const std::string log = fixture.directory / "log";
    const std::string script =
        "exec python3 -c '\nimport os, fcntl\n"
        "def tried(call, *arguments):\n"
        "    try: return str(call(*arguments))\n"
        "    except OSError as error: return error.strerror\n"
        "for number in (1, 2):\n"
        "    print(tried(os.lseek, number, 0, 0), tried(os.ftruncate, number, 0), tried(os.read, number, "
        "1),\n"
        "          tried(os.open, f\"/proc/self/fd/{number}\", os.O_RDONLY), flush=True)\n"
        "print(os.getsid(0) == os.getpid(), os.get_blocking(1), sorted(map(int, "
        "os.listdir(\"/proc/self/fd\")))[:4])\n'";
    auto arguments = RunningOpener::arguments(fixture.directory, {});
    arguments.back() = "-";
    for (const std::string& more : fixture.arguments("1", script)) arguments.push_back(more);
    // By a shell, as administrators do: one file for both, which nobody appends to.
    std::vector<std::string> shell{"/bin/sh", "-c", "exec \"$@\" > " + log + " 2>&1", "sh"};
    shell.insert(shell.end(), arguments.begin(), arguments.end());
    Process opener = Process::start({.arguments = shell});
    const std::string text = wait_for_content(log, "an ended worker", [](const std::string& content) {
        return content.find("started again in") != std::string::npos;
    });
    const std::string nothing =
        "opener: crew: Illegal seek Invalid argument Bad file descriptor Permission denied\n";
    CHECK(text.find(nothing + nothing + "opener: crew: True True [0, 1, 2, 3]\n") != std::string::npos);
    CHECK(text.starts_with("opener: "));
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
}

TEST_CASE("workers: O_NONBLOCK that a worker sets on its output holds for no other worker") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string script =
        "if mkdir " + fixture.path("first") +
        "; then python3 -c 'import os; os.set_blocking(1, False)'; echo $$ > " + fixture.path("set") + "; " +
        waiting(fixture) + "; fi; until [ -s " + fixture.path("set") +
        " ]; do sleep 0.05; done; python3 -c 'import os; print(os.get_blocking(1))' > " +
        fixture.path("next") + "; python3 -c 'import os; print(\"waits:\", os.get_blocking(1))'; " +
        waiting(fixture);
    RunningOpener opener(fixture.directory, fixture.policy, fixture.arguments("2", script));
    opener.process().wait_for_error("opener: crew: waits: True\n");
    CHECK(opener.stop() == 0);
}
