// A forked child that tries something and tells by its exit status how that went.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <iostream>
#include <string>

namespace fdbroker::test {

// 0: it worked; else the errno it failed with, or by_signal + the signal that ended it.
inline constexpr int by_signal = 1000;

// Runs `body` in a child with one thread. It returns 0 or an errno.
inline int in_child(const std::function<int()>& body) {
    std::cout.flush();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        // doctest's handlers would report a signal as the test's own.
        for (const int number : {SIGABRT, SIGFPE, SIGILL, SIGINT, SIGSEGV, SIGTERM})
            std::signal(number, SIG_DFL);
        int result = 255;
        try {
            result = body();
        } catch (...) {
            // Out of the child go nothing but its status.
        }
        ::_exit(result);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? by_signal + WTERMSIG(status) : WEXITSTATUS(status);
}

// What a system call's result means.
inline int errno_of(long result) {
    return result < 0 ? errno : 0;
}

}  // namespace fdbroker::test
