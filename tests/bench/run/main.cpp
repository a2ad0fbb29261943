// SPDX-License-Identifier: MIT
// What file calls and whole programs cost under `worker run`, against the barest broker (B), the same outside, and
// bubblewrap. Needs root: it starts openers, and becomes nobody to be their client.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/run/calls.hpp"
#include "tests/bench/run/options.hpp"
#include "tests/bench/run/programs.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::bench {
namespace {

// A policy of 1,000 rules for opening, one for looking, and those that the programs need.
std::string write_policy(const Scene& scene, const std::string& programs) {
    const std::string rules = scene.write_policy(1000);
    const std::string path = scene.directory() / "policy-run.yaml";
    const std::string look =
        "  - {name: look, allow: [stat], paths: [\"" + (scene.directory() / "tree").string() + "/**\"]}\n";
    test::write_file(path, test::read_file(rules) + look + rules_for_programs(programs), {.mode = 0600});
    return path;
}

void run(const Options& options) {
    const Scene scene;
    const std::string directory = scene.directory().path();
    const std::string programs = directory + "/programs";
    test::make_directory(programs, {.mode = 0755});
    prepare_programs(programs);
    const std::string policy = write_policy(scene, programs);
    const auto as_nobody = [](const auto& body) { test::run_as(test::nobody, body, test::Deadline::max()); };

    const RunningOpener unpinned(options.opener, directory, "unpinned", policy, Audit::none);
    pin_to(options.cpu);
    const RunningOpener pinned(options.opener, directory, "pinned", policy, Audit::none);
    const BarestBroker barest;
    as_nobody([&] { measure_calls(options, scene, barest, pinned.address()); });
    unpin();
    as_nobody([&] {
        std::filesystem::current_path("/");
        ::setenv("HOME", programs.c_str(), 1);
        measure_start(options, unpinned.address());
        measure_programs(options, programs, unpinned.address());
    });
}

}  // namespace
}  // namespace fdbroker::bench

int main(int argc, char** argv) try {
    fdbroker::bench::Options options{.cpu = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)) - 1,
                                     .opener = fdbroker::test::opener_program(),
                                     .worker = fdbroker::test::worker_program()};
    CLI::App app("Measures what calls and programs cost under `worker run`.");
    app.add_option("--rounds", options.rounds, "rounds in which every call takes its turn")
        ->capture_default_str();
    app.add_option("--starts", options.starts, "starts of a program, each way")->capture_default_str();
    app.add_option("--programs", options.programs, "runs of a whole program, each way")
        ->capture_default_str();
    app.add_option("--chunk", options.chunk_microseconds, "microseconds of one turn")->capture_default_str();
    app.add_option("--cpu", options.cpu, "the core that program and brokers share")->capture_default_str();
    app.add_option("--opener", options.opener, "the opener to measure")->capture_default_str();
    app.add_option("--worker", options.worker, "the worker to measure")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    fdbroker::bench::run(options);
    return 0;
} catch (const std::exception& error) {
    std::fputs((std::string("bench-run: ") + error.what() + '\n').c_str(), stderr);
    return 1;
}
