// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace fdbroker::bench {

struct Options {
    unsigned rounds = 300;
    unsigned starts = 100;   // each of /bin/true, each way
    unsigned programs = 15;  // whole programs, each way
    unsigned chunk_microseconds = 2000;
    unsigned cpu = 0;
    std::string opener{};
    std::string worker{};

    std::chrono::nanoseconds chunk() const { return std::chrono::microseconds(chunk_microseconds); }
};

// The command that runs a program under `worker run`.
inline std::vector<std::string> under_run(const Options& options, const std::string& address,
                                          const std::vector<std::string>& command) {
    std::vector<std::string> all{options.worker, "--socket", address, "run"};
    all.insert(all.end(), command.begin(), command.end());
    return all;
}

}  // namespace fdbroker::bench
