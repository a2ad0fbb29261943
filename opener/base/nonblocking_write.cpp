// SPDX-License-Identifier: MIT
#include "opener/base/nonblocking_write.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

Result<UniqueFd> open_without_waiting(BorrowedFd fd) {
    struct stat status{};
    if (::fstat(fd.number(), &status) != 0) return proto::system_error("fstat");
    // A regular file never makes anybody wait, and opened again it would be written from its beginning.
    if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
        UniqueFd own(::open(fmt::format("/proc/self/fd/{}", fd.number()).c_str(),
                            O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        if (own) return own;
        // Somebody else's, or no /proc.
    }
    UniqueFd shared(::fcntl(fd.number(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!shared) return proto::system_error("fcntl");
    return shared;
}

ssize_t write_without_waiting(BorrowedFd stream, std::string_view text) noexcept {
    const ssize_t sent = ::send(stream.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || errno != ENOTSOCK) return sent;
    const int flags = ::fcntl(stream.number(), F_GETFL);
    if (flags < 0) return -1;
    if ((flags & O_NONBLOCK) != 0) return ::write(stream.number(), text.data(), text.size());
    // pipe(7): a pipe that is writable has room for this much. POLLERR and the like are told by write().
    pollfd event{stream.number(), POLLOUT, 0};
    if (::poll(&event, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return ::write(stream.number(), text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
}

}  // namespace fdbroker::opener
