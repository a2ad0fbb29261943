// SPDX-License-Identifier: MIT
#include "tests/bench/broker/crowd.hpp"

#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/bench/broker/product.hpp"

namespace fdbroker::bench {

namespace {

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

}  // namespace

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

double Crowd::opens_per_second(std::size_t active, std::chrono::milliseconds window) const {
    signal(0, active, SIGCONT);
    signal(active, clients_.size(), SIGSTOP);
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t before = opened();
    std::this_thread::sleep_for(window);
    const std::uint64_t after = opened();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return static_cast<double>(after - before) / took.count();
}

}  // namespace fdbroker::bench
