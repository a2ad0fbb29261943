// SPDX-License-Identifier: MIT
#include "opener/confinement/close_descriptors.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;

proto::Result<void> close_all_but(std::span<const BorrowedFd> keep) {
    std::vector<unsigned> numbers;
    for (const BorrowedFd fd : keep) {
        if (fd) numbers.push_back(static_cast<unsigned>(fd.number()));
    }
    std::ranges::sort(numbers);
    unsigned first = 0;
    for (const unsigned number : numbers) {
        if (number > first && kernel::close_range(first, number - 1, 0) != 0) {
            return proto::system_error("close_range");
        }
        first = number + 1;
    }
    if (kernel::close_range(first, std::numeric_limits<unsigned>::max(), 0) != 0) {
        return proto::system_error("close_range");
    }
    return {};
}

}  // namespace fdbroker::opener
