// SPDX-License-Identifier: MIT
#include "tests/bench/broker/resources.hpp"

#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <system_error>

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

// Clients that open files as fast as they are answered, each in a process of its own that can be stopped.
class Crowd {
  public:
    Crowd(const std::string& address, const std::vector<std::string>& paths, std::size_t size);
    Crowd(const Crowd&) = delete;
    Crowd& operator=(const Crowd&) = delete;
    ~Crowd();

    // Opens per second of the first `active` clients; the others are stopped meanwhile.
    double opens_per_second(std::size_t active) const;

  private:
    std::uint64_t opened() const;
    void signal(std::size_t first, std::size_t last, int number) const;

    std::span<std::atomic<std::uint64_t>> counters_;  // one for each client, in memory shared with it
    std::vector<pid_t> clients_{};
};

std::span<std::atomic<std::uint64_t>> share_counters(std::size_t count) {
    void* memory = ::mmap(nullptr, count * sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    auto* counters = static_cast<std::atomic<std::uint64_t>*>(memory);
    std::uninitialized_value_construct_n(counters, count);
    return {counters, count};
}

[[noreturn]] void be_client(const std::string& address, const std::vector<std::string>& paths,
                            std::atomic<std::uint64_t>& counter) {
    if (::setgroups(0, nullptr) < 0 || ::setresgid(test::nobody, test::nobody, test::nobody) < 0 ||
        ::setresuid(test::nobody, test::nobody, test::nobody) < 0) {
        ::_exit(1);
    }
    try {
        const Connection broker(address);
        for (std::size_t i = 0;; ++i) {
            broker.open_and_close(paths[i % paths.size()].c_str());
            counter.fetch_add(1, std::memory_order_relaxed);
        }
    } catch (const std::exception&) {
        ::_exit(1);
    }
}

Crowd::Crowd(const std::string& address, const std::vector<std::string>& paths, std::size_t size)
    : counters_(share_counters(size)) {
    for (std::size_t i = 0; i < size; ++i) {
        const pid_t pid = ::fork();
        if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
        if (pid == 0) be_client(address, paths, counters_[i]);
        clients_.push_back(pid);
    }
}

Crowd::~Crowd() {
    signal(0, clients_.size(), SIGKILL);
    for (const pid_t pid : clients_) ::waitpid(pid, nullptr, 0);
    ::munmap(counters_.data(), counters_.size_bytes());
}

void Crowd::signal(std::size_t first, std::size_t last, int number) const {
    for (std::size_t i = first; i < last; ++i) ::kill(clients_[i], number);
}

std::uint64_t Crowd::opened() const {
    std::uint64_t sum = 0;
    for (const std::atomic<std::uint64_t>& counter : counters_)
        sum += counter.load(std::memory_order_relaxed);
    return sum;
}

double Crowd::opens_per_second(std::size_t active) const {
    signal(0, active, SIGCONT);
    signal(active, clients_.size(), SIGSTOP);
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t before = opened();
    const timespec window{.tv_sec = 0, .tv_nsec = 50'000'000};
    ::nanosleep(&window, nullptr);
    const std::uint64_t after = opened();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return static_cast<double>(after - before) / took.count();
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
