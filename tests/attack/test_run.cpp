// SPDX-License-Identifier: MIT
// Programs under `worker run` that were taken over: by themselves (run_attacker.cpp), and killed at any moment.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/attack/race.hpp"
#include "tests/integration/run_fixture.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// Ends of that process and of all that it started, children's children included.
void watch_ends(pid_t process, std::vector<proto::UniqueFd>& ends) {
    ends.push_back(end_of(process));
    for (const pid_t child : children_of(process)) watch_ends(child, ends);
}

// Kills them all in that order, none after the end of the one before.
void kill_in_order(const std::array<std::string, 3>& order) {
    RunScene scene;
    scene.write("file", "x");
    Process process = Process::start(scene.inside(
        {"sh", "-c", "sleep 1000 & while cat file > /dev/null; do echo turn; done; sleep 1000"}));
    process.wait_for_output("turn");
    std::vector<proto::UniqueFd> ends;
    watch_ends(process.pid(), ends);
    watch_ends(scene.opener().process().pid(), ends);
    const pid_t answering = children_of(process.pid()).front();
    const auto answerer = end_of(answering);
    const auto program = end_of(children_of(answering).front());
    for (const std::string& whom : order) {
        if (whom == "launcher") process.signal(SIGKILL);
        if (whom == "opener") scene.opener().process().signal(SIGKILL);
        // By descriptor: a process that has ended by now is nobody.
        if (whom == "answerer") ::syscall(SYS_pidfd_send_signal, answerer.number(), SIGKILL, nullptr, 0);
        if (whom == "program") ::syscall(SYS_pidfd_send_signal, program.number(), SIGKILL, nullptr, 0);
    }
    for (const proto::UniqueFd& end : ends) wait_readable(end.borrow());
    static_cast<void>(process.wait());
}

}  // namespace

TEST_CASE("run: a program that was taken over reaches nothing that the policy does not grant") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::string program = FDBROKER_RUN_ATTACKER;
    write_file(scene.secret() + "/allowed", "allowed\n", {.mode = 0600});
    write_file(scene.letter() + "/kept", "kept\n", {.mode = 0600, .uid = nobody, .gid = nobody});
    write_file(scene.denied() + "/denied", "denied\n");
    write_file(scene.denied() + "/denied.sh", "#!/bin/sh\necho reached a program exchanged\n",
               {.mode = 0755});
    const Outcome outcome =
        run(scene.inside({program, std::to_string(tries()), scene.work(), scene.secret() + "/allowed",
                          scene.denied() + "/denied", scene.letter() + "/kept"},
                         {"--runtime", std::filesystem::path(program).parent_path()}),
            in_good_time() + std::chrono::minutes(10));
    INFO(outcome.err);
    CHECK(outcome.out == "tried " + std::to_string(tries()) + "\n");
    CHECK(outcome.status == 0);
}

TEST_CASE("run: whichever process is killed, none is left and nothing hangs") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    for (const std::string whom : {"launcher", "answerer", "opener", "program"}) {
        CAPTURE(whom);
        RunScene scene;
        scene.write("file", "x");
        Process process = Process::start(scene.inside(
            {"sh", "-c", "while cat file > /dev/null; do echo turn; done; echo over; sleep 0.1"}));
        process.wait_for_output("turn");
        const pid_t answerer = children_of(process.pid()).front();
        const auto program_end = end_of(answerer);
        const pid_t program = children_of(answerer).front();
        if (whom == "launcher") process.signal(SIGKILL);
        if (whom == "answerer") ::kill(answerer, SIGKILL);
        if (whom == "program") ::kill(program, SIGKILL);
        if (whom == "opener") scene.opener().process().signal(SIGKILL);
        wait_readable(program_end.borrow());
        const Outcome outcome = process.wait();
        if (whom == "program") CHECK(outcome.status == 128 + SIGKILL);
        if (whom == "opener") CHECK(outcome.out.ends_with("over\n"));
    }
}

TEST_CASE("run: worker, opener and program are killed in every order, and no process is left of any") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    for (const std::string worker : {"launcher", "answerer"}) {
        std::array<std::string, 3> order{worker, "opener", "program"};
        std::ranges::sort(order);
        do {
            CAPTURE(order[0]);
            CAPTURE(order[1]);
            CAPTURE(order[2]);
            kill_in_order(order);
        } while (std::ranges::next_permutation(order).found);
    }
}
