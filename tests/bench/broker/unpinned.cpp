// SPDX-License-Identifier: MIT
#include "tests/bench/broker/unpinned.hpp"

#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "tests/bench/broker/crowd.hpp"
#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/broker/table.hpp"

namespace fdbroker::bench {

namespace {

constexpr unsigned starts = 10;
constexpr unsigned looks = 4;  // at each number of clients, taking turns
constexpr std::chrono::milliseconds look{40};
constexpr std::array<std::size_t, 4> crowds{1, 2, 4, 8};

// Nothing is pinned; or the broker and the first client are, to one CPU.
enum class Placed { anywhere, together };

// The time that a process has run, in microseconds.
double cpu_microseconds(pid_t pid) {
    clockid_t clock = 0;
    timespec time{};
    if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

class Sum {
  public:
    void add(double opens_per_second, double cpu, double opens) {
        rate_ += opens_per_second;
        cpu_ += cpu;
        opens_ += opens;
        ++count_;
    }
    double rate() const { return rate_ / count_; }
    double microseconds() const { return 1e6 / rate(); }
    double cpu_per_open() const { return cpu_ / opens_; }

  private:
    double rate_ = 0, cpu_ = 0, opens_ = 0;
    double count_ = 0;
};

class Start {
  public:
    Start(const Options& options, const Scene& scene, const std::string& policy)
        : options_(options),
          opener_(options.opener, scene.directory().path(), "unpinned", policy, Audit::none),
          crowd_(opener_.address(), scene.paths(1000), crowds.back()),
          broker_(opener_.broker_pid()) {
        for (unsigned i = 0; i < looks; ++i) {
            for (std::size_t n = 0; n < crowds.size(); ++n) look_at(crowds[n], Placed::anywhere, crowds_[n]);
            look_at(1, Placed::together, pinned_);
        }
    }

    const Sum& pinned() const { return pinned_; }
    const Sum& of_crowd(std::size_t index) const { return crowds_[index]; }

  private:
    void look_at(std::size_t clients, Placed placed, Sum& sum) {
        for (const pid_t pid : {broker_, crowd_.pids().front()}) {
            if (placed == Placed::together) {
                pin_to(options_.cpu, pid);
            } else {
                unpin(pid);
            }
        }
        const double cpu = cpu_used();
        const auto opened = static_cast<double>(crowd_.opened());
        const double rate = crowd_.opens_per_second(clients, look);
        sum.add(rate, cpu_used() - cpu, static_cast<double>(crowd_.opened()) - opened);
    }
    double cpu_used() const {
        double sum = cpu_microseconds(broker_);
        for (const pid_t pid : crowd_.pids()) sum += cpu_microseconds(pid);
        return sum;
    }

    const Options& options_;
    RunningOpener opener_;
    Crowd crowd_;
    pid_t broker_;
    Sum pinned_{};
    std::array<Sum, crowds.size()> crowds_{};
};

}  // namespace

void measure_unpinned(const Options& options, const Scene& scene) {
    const std::string policy = scene.write_policy(1000);
    double worst_mean = 0;
    std::array<double, crowds.size()> least{};
    least.fill(1e9);
    fmt::print(
        "\nNothing pinned, {} starts: microseconds of a client's open, CPU microseconds of an open in all\n"
        "{:>8}{:>16}{:>16}{:>8}{:>16}{:>16}{:>16}\n",
        starts, "start", "pinned (CPU)", "1 client (CPU)", "ratio", "2: times pinned", "4", "8");
    for (unsigned i = 0; i < starts; ++i) {
        const Start start(options, scene, policy);
        const Sum& pinned = start.pinned();
        const Sum& one = start.of_crowd(0);
        worst_mean = std::max(worst_mean, one.microseconds() / pinned.microseconds());
        fmt::print("{:>8}{:>16}{:>16}{:>8.2f}", i + 1,
                   fmt::format("{:.1f} ({:.1f})", pinned.microseconds(), pinned.cpu_per_open()),
                   fmt::format("{:.1f} ({:.1f})", one.microseconds(), one.cpu_per_open()),
                   one.microseconds() / pinned.microseconds());
        for (std::size_t n = 0; n < crowds.size(); ++n) {
            const Sum& crowd = start.of_crowd(n);
            const double times = crowd.rate() / pinned.rate();
            least[n] = std::min(least[n], times);
            if (n > 0) fmt::print("{:>16}", fmt::format("{:.2f} ({:.1f})", times, crowd.cpu_per_open()));
        }
        fmt::print("\n");
        (void)std::fflush(stdout);
    }
    print_line({.what = "one client, the worst start: mean (of the pinned mean)",
                .measured = worst_mean,
                .target = 1.5,
                .unit = "times"});
    for (std::size_t n = 1; n < crowds.size(); ++n)
        print_line({.what = fmt::format("{} clients, the worst start: opens (of one pinned)", crowds[n]),
                    .measured = least[n],
                    .bound = Bound::at_least,
                    .target = crowds[n] == 8 ? 1.6 : 1,
                    .unit = "times"});
}

}  // namespace fdbroker::bench
