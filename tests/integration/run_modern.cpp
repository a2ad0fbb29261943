// SPDX-License-Identifier: MIT
// A program as newer runtimes make them: many threads that open files at once, openat2(2) and io_uring with a way out where
// there is none. Its argument: "threads" or "fallback". It works in its current directory, and prints what it has read.
#include <fcntl.h>
#include <fmt/core.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr unsigned threads = 16;
constexpr unsigned files = 100;

std::string content_of(int file) {
    std::array<char, 100> text{};
    const ssize_t size = ::read(file, text.data(), text.size());
    ::close(file);
    return size < 0 ? std::string() : std::string(text.data(), static_cast<std::size_t>(size));
}

bool write_and_read(unsigned thread, unsigned number) {
    const std::string name = fmt::format("thread{}-{}", thread, number);
    const int made = ::openat(AT_FDCWD, name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    const bool wrote = ::write(made, name.data(), name.size()) == static_cast<ssize_t>(name.size());
    ::close(made);
    return wrote && content_of(::openat(AT_FDCWD, name.c_str(), O_RDONLY | O_CLOEXEC)) == name &&
           ::unlink(name.c_str()) == 0;
}

void open_at_once() {
    std::atomic<unsigned> good{0};
    std::vector<std::jthread> all;
    for (unsigned thread = 0; thread < threads; ++thread)
        all.emplace_back([&good, thread] {
            for (unsigned number = 0; number < files; ++number)
                if (write_and_read(thread, number)) ++good;
        });
    all.clear();
    fmt::print("{} of {}\n", good.load(), threads * files);
}

// As libpathrs and Go's os.Root have it: openat2(2) where it works, and else openat(2).
int open_beneath(const char* name) {
    open_how how{.flags = O_RDONLY | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_BENEATH};
    const long opened = ::syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof how);
    if (opened >= 0 || errno != ENOSYS) return static_cast<int>(opened);
    return ::openat(AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
}

void fall_back() {
    fmt::print("{}", content_of(open_beneath("a/one")));
    std::array<char, 256> parameters{};
    const long ring = ::syscall(SYS_io_uring_setup, 4, parameters.data());
    if (ring >= 0) ::close(static_cast<int>(ring));
    const bool goes_on = ring >= 0 || errno == ENOSYS || errno == EPERM;
    fmt::print("io_uring {}\n", goes_on ? "used or done without" : std::strerror(errno));
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    if (what == "threads") open_at_once();
    if (what == "fallback") fall_back();
}
