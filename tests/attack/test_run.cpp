// SPDX-License-Identifier: MIT
// Programs under `worker run` that were taken over: by themselves (run_attacker.cpp), and killed at any moment.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "tests/attack/race.hpp"
#include "tests/integration/run_fixture.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

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
