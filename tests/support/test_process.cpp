// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

TEST_CASE("process: status and both outputs come back, and no descriptor stays") {
    const DescriptorTable before = DescriptorTable::now();
    const Outcome outcome = run({.arguments = {"sh", "-c", "echo out; echo err >&2; exit 3"}});
    CHECK(outcome.status == 3);
    CHECK(outcome.signal == 0);
    CHECK(outcome.out == "out\n");
    CHECK(outcome.err == "err\n");
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("process: more output than a pipe holds comes back whole") {
    const Outcome outcome = run({.arguments = {"head", "-c", "1000000", "/dev/zero"}});
    CHECK(outcome.status == 0);
    CHECK(outcome.out.size() == 1000000);
}

TEST_CASE("process: standard input holds the given bytes") {
    CHECK(run({.arguments = {"cat"}, .input = "given"}).out == "given");
    CHECK(run({.arguments = {"cat"}}).out == "");
}

TEST_CASE("process: the environment is the given one, and nothing of ours") {
    REQUIRE(::setenv("FDBROKER_TEST_LEAK", "1", 1) == 0);
    const Outcome outcome =
        run({.arguments = {"env"}, .environment = {{"A", "b"}, {"PATH", "/usr/bin:/bin"}}});
    CHECK(::unsetenv("FDBROKER_TEST_LEAK") == 0);
    CHECK(outcome.out == "A=b\nLC_ALL=C.UTF-8\nPATH=/usr/bin:/bin\n");
}

TEST_CASE("process: the program runs as the given user") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Outcome outcome = run({.arguments = {"sh", "-c", "id -u; id -g; id -G"},
                                 .identity = Identity{.uid = some_user, .gid = 30010, .groups = {30011}}});
    CHECK(outcome.out == "30001\n30010\n30010 30011\n");
}

TEST_CASE("process: the given descriptors are inherited at their numbers, and no others") {
    const TempDir directory;
    write_file(directory / "file", "inherited");
    const proto::UniqueFd file(::open((directory / "file").c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(run({.arguments = {"sh", "-c", "cat <&9"}, .descriptors = {{9, file.borrow()}}}).out ==
          "inherited");

    // The fourth is ls's own, of the directory it lists.
    CHECK(run({.arguments = {"ls", "/proc/self/fd"}}).out == "0\n1\n2\n3\n");
}

TEST_CASE("process: a program that cannot be started says why") {
    CHECK_THROWS_WITH(Process::start({.arguments = {"/nonexistent/program"}}),
                      "cannot start /nonexistent/program: execvpe: No such file or directory");
    CHECK_THROWS_WITH(Process::start({.arguments = {"true"}, .directory = "/nonexistent"}),
                      "cannot start true: chdir: No such file or directory");
}

TEST_CASE("process: waiting for output sees it while the process goes on") {
    std::array<int, 2> ends;
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const proto::UniqueFd held(ends[0]);
    proto::UniqueFd holding(ends[1]);
    Process process =
        Process::start({.arguments = {"sh", "-c", "echo ready; echo steady >&2; read x <&9; echo over"},
                        .descriptors = {{9, held.borrow()}}});
    CHECK(process.wait_for_output("ready") == "ready\n");
    CHECK(process.wait_for_error("steady") == "steady\n");
    holding.reset();
    CHECK(process.wait().out == "ready\nover\n");
}

TEST_CASE("process: waiting for output that never comes ends with the process") {
    Process process = Process::start({.arguments = {"echo", "something else"}});
    CHECK_THROWS_AS(process.wait_for_output("ready"), std::runtime_error);
}

TEST_CASE("process: a signal that ends it is told") {
    Process process = Process::start({.arguments = {"sleep", "1000"}});
    process.signal(SIGTERM);
    const Outcome outcome = process.wait();
    CHECK(outcome.status == -1);
    CHECK(outcome.signal == SIGTERM);
}

TEST_CASE("process: the program ends with the object, at a deadline that has passed, too") {
    pid_t pid = -1;
    {
        Process process = Process::start({.arguments = {"sleep", "1000"}});
        pid = process.pid();
        CHECK_THROWS_AS(process.wait(std::chrono::steady_clock::now()), std::runtime_error);
    }
    CHECK(::kill(pid, 0) == -1);
}

TEST_CASE("process: a program that leaves a child with the pipes behind is over when it exits") {
    const TempDir directory;
    // The background process holds the pipes until the other end of the fifo is opened.
    const std::string fifo = directory / "fifo";
    const Outcome outcome =
        run({.arguments = {"sh", "-c", "mkfifo " + fifo + "; : < " + fifo + " & echo done"}});
    CHECK(outcome.out == "done\n");
    const proto::UniqueFd release(::open(fifo.c_str(), O_WRONLY | O_CLOEXEC));
    CHECK(release);
}

}  // namespace fdbroker::test
