// SPDX-License-Identifier: MIT
// A descriptor table that is nearly full.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <sstream>
#include <string>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

// Leaves room for exactly `count` more descriptors in our table while it lives.
class TableWithRoom {
  public:
    explicit TableWithRoom(std::size_t count) {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        rlimit limit = before_;
        limit.rlim_cur = size;
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (;;) {
            proto::UniqueFd filler(::fcntl(0, F_DUPFD_CLOEXEC, 0));
            if (!filler) break;
            fillers_.push_back(std::move(filler));
        }
        REQUIRE(fillers_.size() >= count);
        fillers_.resize(fillers_.size() - count);
    }
    // Not under valgrind, which keeps the limit to itself: what is passed is counted by the kernel.
    static bool is_possible() {
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        rlimit limit = before;
        limit.rlim_cur = size;
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
        const std::string limits = read_file("/proc/self/limits");
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
        std::istringstream files(limits.substr(limits.find("Max open files") + 14));
        rlim_t kernel_limit = 0;
        files >> kernel_limit;
        return kernel_limit == size;
    }
    TableWithRoom(const TableWithRoom&) = delete;
    TableWithRoom& operator=(const TableWithRoom&) = delete;
    ~TableWithRoom() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    static constexpr rlim_t size = 64;
    rlimit before_{};
    std::vector<proto::UniqueFd> fillers_{};
};

}  // namespace fdbroker::test
