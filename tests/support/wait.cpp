// SPDX-License-Identifier: MIT
#include "tests/support/wait.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "tests/support/files.hpp"

namespace fdbroker::test {

int milliseconds_until(Deadline deadline) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
}

short wait_for_events(proto::BorrowedFd descriptor, short events, Deadline deadline) {
    while (true) {
        pollfd entry{descriptor.number(), events, 0};
        const int ready = ::poll(&entry, 1, milliseconds_until(deadline));
        if (ready > 0) return entry.revents;
        if (ready == 0) {
            throw std::runtime_error("descriptor " + std::to_string(descriptor.number()) +
                                     ": no event before the deadline");
        }
        if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "poll");
    }
}

void wait_readable(proto::BorrowedFd descriptor, Deadline deadline) {
    (void)wait_for_events(descriptor, POLLIN, deadline);
}

bool is_readable_now(proto::BorrowedFd descriptor) {
    pollfd entry{descriptor.number(), POLLIN, 0};
    return ::poll(&entry, 1, 0) > 0;
}

namespace {

// Watches a directory for anything that happens to its entries. The watch is there before `done` is asked for
// the first time, so nothing that happens in between is missed.
void watch_directory_until(const std::filesystem::path& directory, const std::string& what, Deadline deadline,
                           const std::function<bool()>& done) {
    const proto::UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) throw std::system_error(errno, std::generic_category(), "inotify_init1");
    constexpr std::uint32_t events = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_MODIFY;
    if (::inotify_add_watch(watch.number(), directory.c_str(), events) < 0) {
        throw std::system_error(errno, std::generic_category(), "inotify_add_watch: " + directory.string());
    }
    while (!done()) {
        try {
            wait_readable(watch.borrow(), deadline);
        } catch (const std::runtime_error&) {
            throw std::runtime_error(what + " before the deadline");
        }
        std::array<char, 4096> events_read;
        while (::read(watch.number(), events_read.data(), events_read.size()) > 0) {
        }
    }
}

// symlink_status(): a dangling link exists, too.
bool is_there(const std::filesystem::path& path) {
    return std::filesystem::exists(std::filesystem::symlink_status(path));
}

// Lines of /proc/net/unix are: Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON (1 << 16) among
// the flags is a listener's.
bool listens(const std::filesystem::path& path) {
    std::ifstream sockets("/proc/net/unix");
    std::string line;
    while (std::getline(sockets, line)) {
        std::istringstream words(line);
        std::string word;
        std::string flags;
        words >> word >> word >> word >> flags >> word >> word >> word >> word;
        if (word == path && flags == "00010000") return true;
    }
    return false;
}

}  // namespace

void wait_for_path(const std::filesystem::path& path, Deadline deadline) {
    watch_directory_until(path.parent_path(), path.string() + " did not appear", deadline,
                          [&] { return is_there(path); });
}

void wait_for_listener(const std::filesystem::path& path, Deadline deadline) {
    wait_for_path(path, deadline);
    // Between bind(2) and listen(2) there is no event to wait for, only a moment.
    while (!listens(path)) {
        if (milliseconds_until(deadline) == 0)
            throw std::runtime_error(path.string() + ": nobody came to listen");
        ::sched_yield();
    }
}

void wait_for_removal(const std::filesystem::path& path, Deadline deadline) {
    watch_directory_until(path.parent_path(), path.string() + " did not go away", deadline,
                          [&] { return !is_there(path); });
}

std::string wait_for_content(const std::filesystem::path& path, std::string_view what,
                             const std::function<bool(const std::string&)>& holds, Deadline deadline) {
    std::string content;
    watch_directory_until(path.parent_path(), path.string() + ": " + std::string(what) + " did not come",
                          deadline, [&] {
                              if (!is_there(path)) return false;
                              content = read_file(path);
                              return holds(content);
                          });
    return content;
}

std::string wait_for_text(const std::filesystem::path& path, std::string_view text, Deadline deadline) {
    return wait_for_content(
        path, "'" + std::string(text) + "'",
        [text](const std::string& content) { return content.find(text) != std::string::npos; }, deadline);
}

}  // namespace fdbroker::test
