// SPDX-License-Identifier: MIT
#include "opener/confinement/ask_child.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "opener/base/wait_status.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

namespace {

void write_all(int pipe, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(pipe, text.data(), text.size());
        if (written < 0) return;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

std::string read_all(int pipe) {
    std::string text;
    std::array<char, 4096> block;
    for (;;) {
        const ssize_t size = ::read(pipe, block.data(), block.size());
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return text;
        text.append(block.data(), static_cast<std::size_t>(size));
    }
}

}  // namespace

proto::Result<std::string> ask_child(const std::function<std::string(proto::BorrowedFd answer)>& task) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return proto::system_error("pipe2");
    const proto::UniqueFd read_end(ends[0]);
    proto::UniqueFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return proto::system_error("fork");
    if (child == 0) {
        // Not to be ended by a handler of the parent's, nor to live on where nobody reads the answer.
        ::signal(SIGPIPE, SIG_IGN);
        write_all(write_end.number(), task(write_end.borrow()));
        ::_exit(0);
    }
    write_end.reset();
    std::string answer = read_all(read_end.number());
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (answer.empty()) {
        return proto::system_error("confinement",
                                   "the trial in a child " + describe_end(status) + " and gave no answer", 0);
    }
    return answer;
}

}  // namespace fdbroker::opener
