// SPDX-License-Identifier: MIT
#include "tests/bench/run/calls.hpp"

#include <filesystem>

#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/table.hpp"
#include "tests/bench/run/remote.hpp"

namespace fdbroker::bench {
namespace {

constexpr const char* of_runtime = "/usr/bin/env";
constexpr unsigned at_once = 100;  // calls to an order: its own cost disappears

Variant remote(const Remote& probe, Work::Call call) {
    return {.opens_per_call = at_once, .call = [&probe, call] { probe.work(call, at_once); }};
}

Variant through_barest(const BarestBroker& barest, const std::vector<std::string>& paths) {
    return {.opens_per_call = at_once, .call = [&barest, paths, turn = std::size_t{0}]() mutable {
                for (unsigned done = 0; done < at_once; ++done)
                    static_cast<void>(barest.open(paths[turn++ % paths.size()].c_str()));
            }};
}

}  // namespace

void measure_calls(const Options& options, const Scene& scene, const BarestBroker& barest,
                   const std::string& address) {
    const std::string program = FDBROKER_BENCH_PROBE;
    const std::vector<std::string> paths = scene.paths(1000);
    std::vector<std::string> command{program, of_runtime, scene.refused_paths().front()};
    command.insert(command.end(), paths.begin(), paths.end());
    const Remote outside(command);
    command.insert(command.begin(), {"--runtime", std::filesystem::path(program).parent_path(), "--"});
    const Remote inside(under_run(options, address, command));
    enum : std::size_t { b, a, open, refused, stat, fstat, runtime_outside, runtime_inside, stat_outside };
    const std::vector<Variant> variants{through_barest(barest, paths),
                                        remote(outside, Work::Call::open),
                                        remote(inside, Work::Call::open),
                                        remote(inside, Work::Call::open_refused),
                                        remote(inside, Work::Call::stat),
                                        remote(inside, Work::Call::fstat),
                                        remote(outside, Work::Call::open_of_runtime),
                                        remote(inside, Work::Call::open_of_runtime),
                                        remote(outside, Work::Call::stat)};
    const Measurement measured = interleave(variants, options.rounds, options.chunk());

    print_heading("References");
    print_value("A: open and close without a broker", measured.median(a) / 1000, "us");
    print_value("B: the barest broker", measured.median(b) / 1000, "us");
    print_heading("Under `worker run`, one core, 1,000 rules");
    print_line({.what = "open and close", .measured = measured.ratio(open, b), .target = 2.4, .unit = "B"});
    print_value("the same", measured.median(open) / 1000, "us");
    print_line({.what = "stat", .measured = measured.ratio(stat, b), .target = 2.2, .unit = "B"});
    print_line({.what = "open and close in the runtime",
                .measured = measured.ratio(runtime_inside, runtime_outside),
                .target = 1.6,
                .unit = "times"});
    print_value("the same outside", measured.median(runtime_outside) / 1000, "us");
    print_value("a refused open", measured.ratio(refused, b), "B");
    print_value("fstat", measured.ratio(fstat, b), "B");
}

}  // namespace fdbroker::bench
