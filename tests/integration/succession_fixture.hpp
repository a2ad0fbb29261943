// SPDX-License-Identifier: MIT
// What goes on while one opener takes the place of another, and what is on record of it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::test {

// Parses the whole lines.
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

// A peer that sends requests in a separate thread until told to stop or until a request fails.
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

// Peers that ask for one file, each in a thread.
class AskingPeers {
  public:
    AskingPeers(const std::string& socket, const std::string& file, std::size_t count = 4) {
        for (std::size_t i = 0; i < count; ++i) all_.push_back(std::make_unique<Asking>(socket, file));
    }
    // Until each has had so many more answers.
    void wait_for_answers(unsigned more) const {
        for (const auto& peer : all_) peer->wait_for_answers(more);
    }
    // Ends them; every request of each was answered with the file.
    void stop() {
        for (const auto& peer : all_) CHECK(peer->stop() == 0);
        all_.clear();
    }

  private:
    std::vector<std::unique_ptr<Asking>> all_{};
};

}  // namespace fdbroker::test
