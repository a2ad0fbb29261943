// What a request costs, against the process's own openat() (A) and against the barest broker there can be (B).
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <system_error>

#include "tests/bench/broker/barest.hpp"
#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/scene.hpp"
#include "tests/bench/broker/table.hpp"
#include "tests/support/child.hpp"

namespace fdbroker::bench {

namespace {

struct Options {
    unsigned rounds = 400;
    unsigned chunk_microseconds = 1000;
    unsigned cpu = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN)) - 1;
};

void pin_to(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (::sched_setaffinity(0, sizeof set, &set) < 0) {
        throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
    }
}

// Hands out the paths one after the other, for ever.
class Turn {
  public:
    explicit Turn(std::vector<std::string> paths) : paths_(std::move(paths)) {}
    const char* next() { return paths_[index_++ % paths_.size()].c_str(); }

  private:
    std::vector<std::string> paths_;
    std::size_t index_ = 0;
};

void open_in_process(const char* path) {
    const proto::UniqueFd file(::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
    if (!file) {
        std::perror(path);
        std::abort();
    }
}

// The unprivileged client, pinned to the core where the brokers run.
void measure(const Options& options, const Scene& scene, const BarestBroker& barest) {
    Turn in_process(scene.paths(1000));
    Turn through_barest(scene.paths(1000));
    const std::vector<Variant> variants{
        {.name = "A", .call = [&] { open_in_process(in_process.next()); }},
        {.name = "B", .call = [&] { (void)barest.open(through_barest.next()); }},
    };
    const Measurement measured =
        interleave(variants, options.rounds, std::chrono::microseconds(options.chunk_microseconds));
    print_heading("references");
    print_value("A: openat and close in the process", measured.median(0) / 1000, "us");
    print_value("B: the barest broker", measured.median(1) / 1000, "us");
    print_value("B in terms of A", measured.ratio(1, 0), "A");
}

void run(const Options& options) {
    pin_to(options.cpu);
    const Scene scene;
    scene.write_policy(1000);
    const BarestBroker barest;
    test::run_as(test::nobody, [&] { measure(options, scene, barest); }, test::Deadline::max());
}

}  // namespace

}  // namespace fdbroker::bench

int main(int argc, char** argv) {
    fdbroker::bench::Options options;
    CLI::App app(
        "Measures what a request costs, against openat() in the process (A) and the barest broker (B).");
    app.add_option("--rounds", options.rounds, "rounds in which every variant takes its turn")
        ->capture_default_str();
    app.add_option("--chunk", options.chunk_microseconds, "microseconds of one turn")->capture_default_str();
    app.add_option("--cpu", options.cpu, "the core that clients and brokers share")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        fdbroker::bench::run(options);
    } catch (const std::exception& error) {
        std::cerr << "bench-broker: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
