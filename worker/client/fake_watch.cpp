// SPDX-License-Identifier: MIT
#include "worker/client/fake_watch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>

namespace fdbroker::worker {

using proto::UniqueFd;

bool FakeWatch::is_read() const {
    pollfd pipe{.fd = pipe_.number(), .events = POLLOUT, .revents = 0};
    return ::poll(&pipe, 1, 0) == 1;
}

void FakeWatch::tell(const proto::Looked& now) {
    pollfd pipe{.fd = pipe_.number(), .events = 0, .revents = 0};
    // SIGPIPE is the program's own.
    if (::poll(&pipe, 1, 0) == 1) return pipe_.reset();
    const std::uint8_t changes = proto::changes_between(last_, now) & mask_;
    last_ = now;
    if (changes != 0 && ::write(pipe_.number(), &changes, sizeof changes) != sizeof changes) pipe_.reset();
}

WatchPipe make_watch_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
    WatchPipe pipe{.reading = UniqueFd(ends[0]), .writing = UniqueFd(ends[1])};
    // A pipe of one page has room only when all is read.
    if (::fcntl(ends[1], F_SETPIPE_SZ, 1) < 0 || ::fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) return {};
    return pipe;
}

}  // namespace fdbroker::worker
