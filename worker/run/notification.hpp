// SPDX-License-Identifier: MIT
// seccomp_unotify(2): the calls of the program that wait for an answer.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

// A call that waits. The thread that made it sleeps in the kernel until it is answered, or is killed.
struct Notification {
    std::uint64_t id = 0;
    pid_t thread = 0;  // in this process's pid namespace
    int number = 0;    // the system call's
    std::array<std::uint64_t, 6> arguments{};
};

// How a call is answered.
struct Answer {
    enum class Kind : std::uint8_t {
        value,  // the call returns `value`, which is a negative errno for a failure
        go_on,  // the kernel carries the call out as if it had not been caught
        file,   // `file` becomes the caller's lowest free descriptor, which the call returns
    };
    Kind kind = Kind::value;
    std::int64_t value = 0;
    proto::UniqueFd file{};
    unsigned file_flags = 0;  // O_CLOEXEC or 0

    static Answer of(std::int64_t value) { return {.value = value}; }
    static Answer failure(int errno_value) { return {.value = -errno_value}; }
    static Answer go_on() { return {.kind = Kind::go_on}; }
    static Answer deliver(proto::UniqueFd file, unsigned flags) {
        return {.kind = Kind::file, .file = std::move(file), .file_flags = flags};
    }
};

class Listener {
  public:
    // The request of ioctl(2) that wake_on_same_core() makes.
    static const unsigned set_flags_request;

    explicit Listener(proto::UniqueFd descriptor) : descriptor_(std::move(descriptor)) {}

    proto::BorrowedFd descriptor() const { return descriptor_.borrow(); }
    // Where the kernel can (Linux 6.6), a thread that waits and the one that answers take turns on one core.
    void wake_on_same_core() const;
    // The next call; nullopt: none waits, or the one that did is gone. Blocks where none waits.
    std::optional<Notification> receive() const;
    // Whether the call still waits. What is done by its thread's number is done to that thread only if this holds
    // afterwards.
    bool is_valid(const Notification& notification) const;
    // A call that is gone by now is forgotten. EMFILE and the like of the caller's table become the call's own failure.
    void answer(const Notification& notification, const Answer& answer) const;

  private:
    void respond(std::uint64_t id, std::int64_t value, std::uint32_t flags) const;
    proto::UniqueFd descriptor_;
};

}  // namespace fdbroker::worker
