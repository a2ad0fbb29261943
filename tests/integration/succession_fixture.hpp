// SPDX-License-Identifier: MIT
// What goes on while one opener takes the place of another, and what is on record of it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::test {

// Of whole lines.
inline std::vector<nlohmann::json> parsed(const std::string& text) {
    std::vector<nlohmann::json> records;
    std::istringstream lines(text.substr(0, text.rfind('\n') + 1));
    for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
    return records;
}

inline std::vector<nlohmann::json> records_in(const std::filesystem::path& file) {
    return parsed(read_file(file));
}

inline std::ptrdiff_t count_events(const std::vector<nlohmann::json>& records, const std::string& event) {
    return std::ranges::count_if(
        records, [&](const nlohmann::json& each) { return each.value("event", "") == event; });
}

// A peer that asks without end in a thread of its own, until it is told to stop or something fails.
class Asking {
  public:
    Asking(const std::string& socket, const std::string& file)
        : peer_(socket), thread_([this, file] {
              while (!stop_ && failed_ == 0) {
                  failed_ = peer_.open(file).status;
                  ++answered_;
              }
          }) {}
    ~Asking() {
        if (thread_.joinable()) stop();
    }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;

    // Until so many more have been answered.
    void wait_for_answers(unsigned more) const {
        const unsigned until = answered_ + more;
        const Deadline deadline = in_good_time();
        while (answered_ < until && failed_ == 0) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            std::this_thread::yield();
        }
    }
    // 0: every request was answered with its file.
    int stop() {
        stop_ = true;
        thread_.join();
        return failed_;
    }

  private:
    TestPeer peer_;
    std::atomic<bool> stop_{false};
    std::atomic<int> failed_{0};
    std::atomic<unsigned> answered_{0};
    std::thread thread_;
};

}  // namespace fdbroker::test
