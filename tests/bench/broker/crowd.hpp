// SPDX-License-Identifier: MIT
// Clients that open files as fast as they are answered, each in a process of its own that can be stopped.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fdbroker::bench {

class Crowd {
  public:
    // The clients run as the user that the scene's policies name, on the cores that their starter may run on.
    Crowd(const std::string& address, const std::vector<std::string>& paths, std::size_t size);
    Crowd(const Crowd&) = delete;
    Crowd& operator=(const Crowd&) = delete;
    ~Crowd();

    // Opens per second of the first `active` clients; the others are stopped meanwhile.
    double opens_per_second(std::size_t active,
                            std::chrono::milliseconds window = std::chrono::milliseconds(50)) const;
    // The opens of all clients, so far.
    std::uint64_t opened() const;
    std::span<const pid_t> pids() const { return clients_; }

  private:
    void signal(std::size_t first, std::size_t last, int number) const;

    std::span<std::atomic<std::uint64_t>> counters_;  // a counter for each client, in memory shared with it
    std::vector<pid_t> clients_{};
};

}  // namespace fdbroker::bench
