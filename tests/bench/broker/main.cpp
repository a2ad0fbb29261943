// SPDX-License-Identifier: MIT
// What fdbroker costs, against the process's own openat() (A) and against the barest broker there can be (B). Needs
// root: it starts openers, and becomes nobody to be their client.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "tests/bench/broker/costs.hpp"
#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/broker/resources.hpp"
#include "tests/bench/broker/table.hpp"
#include "tests/bench/broker/unpinned.hpp"
#include "tests/support/child.hpp"

namespace fdbroker::bench {

namespace {

// From here on everything that is started shares the core, until unpin().
void run_pinned(const Options& options, const Scene& scene) {
    const std::string directory = scene.directory().path();
    const std::string rules_1000 = scene.write_policy(1000);
    pin_to(options.cpu);
    const RunningOpener plain(options.opener, directory, "plain", rules_1000, Audit::none);
    const RunningOpener audited(options.opener, directory, "audited", rules_1000, Audit::file);
    const RunningOpener few(options.opener, directory, "few", scene.write_policy(10), Audit::none);
    const RunningOpener many(options.opener, directory, "many", scene.write_policy(100000), Audit::none);
    const BarestBroker barest;
    const Addresses addresses{.rules_1000 = plain.address(),
                              .rules_10 = few.address(),
                              .rules_100000 = many.address(),
                              .audited = audited.address()};
    test::run_as(
        test::nobody, [&] { measure_costs(options, scene, barest, addresses); }, test::Deadline::max());
    print_heading("Many clients, and the machine");
    measure_crowd(options, scene);
    unpin();
}

void run_shadow(const Options& options, const Scene& scene) {
    const std::string directory = scene.directory().path();
    const std::string policy = scene.write_policy(1000);
    pin_to(options.cpu);
    const RunningOpener alone(options.opener, directory, "alone", policy, Audit::none);
    const RunningOpener shadowed(options.opener, directory, "shadowed", policy, Audit::none, Shadow::same);
    const BarestBroker barest;
    test::run_as(
        test::nobody, [&] { measure_shadow(options, scene, barest, alone.address(), shadowed.address()); },
        test::Deadline::max());
    unpin();
}

void run(const Options& options) {
    const Scene scene;
    const bool all = options.rows == "all";
    if (all || options.rows == "pinned") run_pinned(options, scene);
    if (all || options.rows == "shadow") run_shadow(options, scene);
    if (all || options.rows == "unpinned") measure_unpinned(options, scene);
    if (!all && options.rows != "machine") return;
    measure_loading(options, scene);
    measure_memory(options, scene);
}

}  // namespace

}  // namespace fdbroker::bench

int main(int argc, char** argv) try {
    fdbroker::bench::Options options{.cpu = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)) - 1,
                                     .opener = fdbroker::test::opener_program()};
    CLI::App app(
        "Measures what a request costs, against openat() in the process (A) and the barest broker (B).");
    app.add_option("--rounds", options.rounds, "rounds in which every variant takes its turn")
        ->capture_default_str();
    app.add_option("--chunk", options.chunk_microseconds, "microseconds of one turn")->capture_default_str();
    app.add_option("--cpu", options.cpu, "the core that clients and brokers share")->capture_default_str();
    app.add_option("--opener", options.opener, "the opener to measure")->capture_default_str();
    app.add_option("--rows", options.rows, "which rows: pinned, shadow, unpinned, machine, or all")
        ->check(CLI::IsMember({"all", "pinned", "shadow", "unpinned", "machine"}))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    fdbroker::bench::run(options);
    return 0;
} catch (const std::exception& error) {
    std::fputs((std::string("bench-broker: ") + error.what() + '\n').c_str(), stderr);
    return 1;
}
