// SPDX-License-Identifier: MIT
// What a service manager does for an opener that it starts again: it keeps descriptors (FDSTORE=1), hears of the opener's
// state, and passes what it has kept to the next one.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::test {

class ServiceManager {
  public:
    // Listens in `directory`, which must outlive it. Keeps up to `room` descriptors; 0: none, and tells the opener so.
    explicit ServiceManager(const TempDir& directory, std::size_t room = 4096);
    ServiceManager(const ServiceManager&) = delete;
    ServiceManager& operator=(const ServiceManager&) = delete;
    ~ServiceManager();

    // Starts the program with what is kept, and returns at once.
    Process start(std::vector<std::string> arguments) const;
    // How many are kept under that name.
    std::size_t kept(const std::string& name) const;
    // As when the service has stopped for good.
    void forget_all();
    // How often an opener has said that it is ready.
    unsigned times_ready() const { return times_ready_; }

  private:
    void serve();
    void obey(const std::string& message, std::vector<proto::UniqueFd> descriptors);

    std::filesystem::path path_;
    std::size_t room_;
    proto::UniqueFd socket_;
    proto::UniqueFd end_, ended_;  // a pipe: closing `end_` ends the thread
    mutable std::mutex mutex_{};
    std::multimap<std::string, proto::UniqueFd> kept_{};
    std::atomic<unsigned> times_ready_{0};
    std::thread thread_;
};

}  // namespace fdbroker::test
