// SPDX-License-Identifier: MIT
#include "tests/bench/broker/resources.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <stdexcept>

#include "tests/bench/broker/crowd.hpp"
#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/broker/table.hpp"

namespace fdbroker::bench {

namespace {

// The quickest of three: the others were kept waiting by something.
double seconds_to_check(const std::string& opener, const std::string& policy) {
    double quickest = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 3; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const test::Outcome outcome = test::run({.arguments = {opener, "--check", "--policy", policy}});
        if (outcome.status != 0) throw std::runtime_error("opener --check: " + outcome.err);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        quickest = std::min(quickest, took.count());
    }
    return quickest;
}

double proportional_kib(pid_t pid) {
    const std::string rollup = test::read_file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    return std::stod(rollup.substr(rollup.find("\nPss:") + 5));
}

}  // namespace

void measure_loading(const Options& options, const Scene& scene) {
    const double seconds_10000 = seconds_to_check(options.opener, scene.write_policy(10000));
    const double seconds_100000 = seconds_to_check(options.opener, scene.write_policy(100000));
    print_line({.what = "loading 100,000 rules", .measured = seconds_100000, .target = 2, .unit = "s"});
    print_value("loading 10,000 rules", seconds_10000, "s");
}

void measure_memory(const Options& options, const Scene& scene) {
    const RunningOpener opener(options.opener, scene.directory().path(), "memory", scene.write_policy(1000),
                               Audit::none);
    // The broker has come to rest once it has answered somebody.
    const Connection first(opener.address());
    const pid_t broker = opener.broker_pid();
    const double alone = proportional_kib(broker);
    print_line({.what = "memory of the broker with 1,000 rules, idle",
                .measured = alone / 1024,
                .target = 6,
                .unit = "MiB"});
    constexpr std::size_t peers = 50;
    std::vector<std::unique_ptr<Connection>> connections;
    for (std::size_t i = 0; i < peers; ++i)
        connections.push_back(std::make_unique<Connection>(opener.address()));
    print_line({.what = "memory of each idle peer",
                .measured = (proportional_kib(broker) - alone) / static_cast<double>(peers),
                .target = 4,
                .unit = "KiB"});
}

void measure_crowd(const Options& options, const Scene& scene) {
    constexpr std::size_t size = 64;
    const RunningOpener opener(options.opener, scene.directory().path(), "crowd", scene.write_policy(1000),
                               Audit::none);
    const Crowd crowd(opener.address(), scene.paths(1000), size);
    std::vector<double> ratios;
    constexpr unsigned looks = 40;
    for (unsigned i = 0; i < looks; ++i) {
        const double many = crowd.opens_per_second(size);
        ratios.push_back(many / crowd.opens_per_second(1));
    }
    print_line({.what = "64 clients against 1: opens per second",
                .measured = quantile(std::move(ratios), 0.5),
                .bound = Bound::at_least,
                .target = 0.8,
                .unit = "times"});
}

}  // namespace fdbroker::bench
