// SPDX-License-Identifier: MIT
// A directory whose files are served as streams, and what tests do with one.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <sstream>
#include <string>
#include <vector>

#include "opener/quota/helper_limits.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

inline constexpr std::uint32_t appending = O_WRONLY | O_APPEND;
// More than a pipe holds, so that whoever does not read keeps its stream going.
inline const std::string large(std::size_t{1} << 20, 'x');
inline constexpr std::size_t streams_of_user = opener::max_background_helpers_of_user;

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";

    Fixture() {
        make_directory(data, {.mode = 0700});
        write_file(data + "/large", large);
        write_file(data + "/log", "first\n");
    }
    std::string policy() const {
        return "version: 1\nrules:\n  - name: streams\n    allow: [read, append, create, list]\n    paths: "
               "[\"" +
               data +
               "/**\"]\n    deliver: stream\n    create: {mode: \"0640\"}\n    files: {max_size: 2MiB}\n";
    }
};

inline void write_all(const TestPeer::Answer& stream, const std::string& text) {
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t size = ::write(stream.fd.number(), text.data() + done, text.size() - done);
        REQUIRE(size > 0);
        done += static_cast<std::size_t>(size);
    }
}

inline std::string rest_of(const TestPeer::Answer& stream) {
    std::string text;
    std::vector<char> buffer(1 << 16);
    for (;;) {
        const ssize_t size = ::read(stream.fd.number(), buffer.data(), buffer.size());
        REQUIRE(size >= 0);
        if (size == 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(size));
    }
}

inline void wait_for_size(const std::string& path, std::size_t size) {
    wait_for_content(path, "what was written", [&](const std::string& text) { return text.size() >= size; });
}

// Bytes in the pipe that nobody has read yet.
inline std::size_t unread(const TestPeer::Answer& stream) {
    int bytes = 0;
    REQUIRE(::ioctl(stream.fd.number(), FIONREAD, &bytes) == 0);
    return static_cast<std::size_t>(bytes);
}

inline void wait_for_unread(const TestPeer::Answer& stream, std::size_t bytes) {
    const Deadline deadline = in_good_time();
    while (unread(stream) < bytes) REQUIRE(std::chrono::steady_clock::now() < deadline);
}

// Bytes that a process has read from anything.
inline std::size_t read_by(pid_t pid) {
    std::istringstream io(read_file("/proc/" + std::to_string(pid) + "/io"));
    std::string key;
    std::size_t bytes = 0;
    io >> key >> bytes;
    REQUIRE(key == "rchar:");
    return bytes;
}

// Nobody reads any more what is written to it.
inline void wait_until_closed(const TestPeer::Answer& stream) {
    CHECK((wait_for_events(stream.fd.borrow(), 0) & POLLERR) != 0);
}

// The one process that stays with a stream, held so that the pipe keeps what is written.
class HeldHelper {
  public:
    explicit HeldHelper(const RunningOpener& opener) {
        const auto helpers = helpers_of(opener.broker());
        REQUIRE(helpers.size() == 1);
        pid_ = helpers.front();
        end_ = end_of(pid_);
        ::kill(pid_, SIGSTOP);
        wait_until_stopped(pid_);
    }
    void let_go() const { ::kill(pid_, SIGCONT); }
    void wait_for_end() const { wait_readable(end_.borrow()); }

  private:
    pid_t pid_ = 0;
    proto::UniqueFd end_{};
};

}  // namespace fdbroker::test
