// SPDX-License-Identifier: MIT
// System calls, for tests of what a filter lets through.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::test {

// Objects that the calls work on; made before the filter.
struct Things {
    TempDir top{};
    std::string path = top / "file";
    std::string other = top / "other";
    proto::UniqueFd directory{};
    proto::UniqueFd file{};
    proto::UniqueFd epoll{};
    proto::UniqueFd event{};
    proto::UniqueFd timer{};
    proto::UniqueFd socket{};
    proto::UniqueFd peer{};

    Things();
};

long raw(long number, auto... arguments) {
    return ::syscall(number, arguments...);
}

struct Call {
    std::string name;
    std::function<long(const Things&)> make;
};

// Each of these succeeds for root, or fails with an errno other than EPERM.
const std::vector<Call>& forbidden_calls();
// Each of these must succeed.
const std::vector<Call>& needed_calls();

}  // namespace fdbroker::test
