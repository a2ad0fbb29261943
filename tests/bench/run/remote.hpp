// SPDX-License-Identifier: MIT
// A probe (probe.cpp) that another process starts and gives work.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/bench/run/work.hpp"

namespace fdbroker::bench {

class Remote {
  public:
    // `command` starts the probe, by itself or under another program that passes standard input on. Ends with the
    // object. Throws std::system_error.
    explicit Remote(const std::vector<std::string>& command);
    Remote(const Remote&) = delete;
    Remote& operator=(const Remote&) = delete;
    ~Remote();

    // Waits until the work is done. Throws std::runtime_error when the probe has ended.
    void work(Work::Call call, unsigned times) const;

  private:
    proto::UniqueFd socket_{};
    pid_t pid_ = -1;
};

// Starts a program with nothing but these descriptors as its standard input, output and error, and returns its process
// number. Throws std::system_error.
pid_t spawn(const std::vector<std::string>& command, proto::BorrowedFd input, proto::BorrowedFd output);

}  // namespace fdbroker::bench
