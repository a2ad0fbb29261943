// A descriptor table that is nearly full.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <vector>

#include "proto/unique_fd.hpp"

namespace fdbroker::test {

// Leaves room for exactly `count` more descriptors in our table while it lives.
class TableWithRoom {
  public:
    explicit TableWithRoom(std::size_t count) {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        rlimit limit = before_;
        limit.rlim_cur = 64;
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (;;) {
            proto::UniqueFd filler(::fcntl(0, F_DUPFD_CLOEXEC, 0));
            if (!filler) break;
            fillers_.push_back(std::move(filler));
        }
        REQUIRE(fillers_.size() >= count);
        fillers_.resize(fillers_.size() - count);
    }
    TableWithRoom(const TableWithRoom&) = delete;
    TableWithRoom& operator=(const TableWithRoom&) = delete;
    ~TableWithRoom() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
    std::vector<proto::UniqueFd> fillers_{};
};

}  // namespace fdbroker::test
