// SPDX-License-Identifier: MIT
#include "worker/copy.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;

constexpr std::size_t block_size = 131072;  // bytes; coreutils' cat(1) measured it as the best

// Whether the call that has just failed is to be tried again, once the descriptor is ready if it was not.
bool is_to_be_repeated(BorrowedFd descriptor, short events) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) return false;
    pollfd waited{.fd = descriptor.number(), .events = events, .revents = 0};
    return ::poll(&waited, 1, -1) >= 0 || errno == EINTR;
}

std::unexpected<CopyError> failed(CopySide side) {
    return std::unexpected(CopyError{side, errno});
}

}  // namespace

std::expected<void, CopyError> copy(BorrowedFd source, BorrowedFd target) {
    std::vector<std::byte> block(block_size);
    for (;;) {
        const ssize_t size = ::read(source.number(), block.data(), block.size());
        if (size == 0) return {};
        if (size < 0) {
            if (is_to_be_repeated(source, POLLIN)) continue;
            return failed(CopySide::source);
        }
        std::span<const std::byte> rest(block.data(), static_cast<std::size_t>(size));
        while (!rest.empty()) {
            const ssize_t written = ::write(target.number(), rest.data(), rest.size());
            if (written >= 0)
                rest = rest.subspan(static_cast<std::size_t>(written));
            else if (!is_to_be_repeated(target, POLLOUT))
                return failed(CopySide::target);
        }
    }
}

}  // namespace fdbroker::worker
