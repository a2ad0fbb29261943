// SPDX-License-Identifier: MIT
// Processes that somebody has stopped.
#include <doctest/doctest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "opener/supervisor/stopped_processes.hpp"
#include "tests/support/child.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

using Pids = std::vector<pid_t>;

// A child that waits to be killed.
pid_t make_child() {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        for (;;) ::pause();
    }
    return pid;
}

void stop(pid_t pid) {
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT) == 0);
}

void go_on(pid_t pid) {
    REQUIRE(::kill(pid, SIGCONT) == 0);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WCONTINUED) == 0);
}

int end_of(pid_t pid) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("stopped processes: a child found stopped in so many looks in a row is killed, others live") {
    test::run_in_child([] {
        const pid_t stopped = make_child(), other = make_child();
        StoppedProcesses processes(3);
        stop(stopped);
        CHECK(processes.end_stopped({}) == Pids{});
        CHECK(processes.end_stopped({}) == Pids{});
        go_on(stopped);
        CHECK(processes.end_stopped({}) == Pids{});
        stop(stopped);
        CHECK(processes.end_stopped({}) == Pids{});
        CHECK(processes.end_stopped({}) == Pids{});
        CHECK(processes.end_stopped({}) == Pids{stopped});
        CHECK(end_of(stopped) == SIGKILL);
        CHECK(processes.end_stopped({}) == Pids{});
        CHECK(::kill(other, SIGKILL) == 0);
        CHECK(end_of(other) == SIGKILL);
    });
}

TEST_CASE("stopped processes: descendants are looked at, excepted children and theirs are not") {
    test::run_in_child([] {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            const pid_t grandchild = make_child();
            static_cast<void>(::write(ends[1], &grandchild, sizeof grandchild));
            for (;;) ::pause();
        }
        pid_t grandchild = 0;
        REQUIRE(::read(ends[0], &grandchild, sizeof grandchild) == sizeof grandchild);
        StoppedProcesses processes(1);
        REQUIRE(::kill(grandchild, SIGSTOP) == 0);
        CHECK(processes.end_stopped(Pids{child}) == Pids{});
        while (processes.end_stopped({}) != Pids{grandchild}) ::sched_yield();
        stop(child);
        CHECK(processes.end_stopped(Pids{child}) == Pids{});
        CHECK(processes.end_stopped({}) == Pids{child});
        CHECK(end_of(child) == SIGKILL);
    });
}

TEST_CASE("stopped processes: a process that a debugger holds is left alone") {
    test::run_in_child([] {
        const pid_t child = make_child();
        REQUIRE(::ptrace(PTRACE_SEIZE, child, nullptr, nullptr) == 0);
        REQUIRE(::ptrace(PTRACE_INTERRUPT, child, nullptr, nullptr) == 0);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSTOPPED(status));
        StoppedProcesses processes(1);
        CHECK(processes.end_stopped({}) == Pids{});
        CHECK(::kill(child, SIGKILL) == 0);
        CHECK(end_of(child) == SIGKILL);
    });
}
