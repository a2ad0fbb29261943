// SPDX-License-Identifier: MIT
// A program that makes file calls on order, under `worker run` or not. Standard input is a socket: each message is a
// Work (work.hpp), answered by one byte when it is done.
//
// Arguments: a file of the runtime, and files that it may read.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/bench/run/work.hpp"

using fdbroker::bench::Work;

namespace {

void require(const char* path, int result) {
    if (result >= 0) return;
    std::perror(path);
    std::exit(1);
}

void open_and_close(const char* path) {
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    require(path, file);
    ::close(file);
}

void be_refused(const char* path) {
    if (::open(path, O_RDONLY | O_CLOEXEC) < 0) return;
    std::fprintf(stderr, "%s: should have been refused\n", path);
    std::exit(1);
}

struct Paths {
    const char* of_runtime;
    const char* refused;
    char** files;
    int count;
};

void do_once(const Paths& paths, Work::Call call, unsigned turn) {
    const char* path = paths.files[turn % static_cast<unsigned>(paths.count)];
    struct stat status;
    switch (call) {
        case Work::Call::open:
            return open_and_close(path);
        case Work::Call::open_refused:
            return be_refused(paths.refused);
        case Work::Call::open_of_runtime:
            return open_and_close(paths.of_runtime);
        case Work::Call::stat:
            return require(path, ::stat(path, &status));
        case Work::Call::fstat:
            return require("standard input", ::fstat(STDIN_FILENO, &status));
    }
}

}  // namespace

int main(int count, char** arguments) {
    constexpr int fixed = 3;
    if (count <= fixed) return 2;
    const Paths paths{.of_runtime = arguments[1],
                      .refused = arguments[2],
                      .files = arguments + fixed,
                      .count = count - fixed};
    unsigned turn = 0;
    Work work{};
    while (::recv(STDIN_FILENO, &work, sizeof work, 0) == sizeof work) {
        for (unsigned done = 0; done < work.times; ++done) do_once(paths, work.call, turn++);
        constexpr char answer = 0;
        if (::send(STDIN_FILENO, &answer, 1, MSG_NOSIGNAL) != 1) return 1;
    }
    return 0;
}
