// SPDX-License-Identifier: MIT
// What the flags of an open request mean: the operations it needs, and what openat2 is given.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

#include "policy/matching/operation.hpp"

namespace fdbroker::opener {

enum class OpenFlagsError : std::uint8_t {
    access_mode,        // access mode 3
    unknown_bit,        // a bit that open(2) does not have, or one that has no meaning through a broker
    truncate_readonly,  // O_RDONLY|O_TRUNC: truncates on Linux, which nobody means
    create_directory,   // O_CREAT|O_DIRECTORY: a regular file on Linux before 6.4, EINVAL since
};
std::string_view to_string(OpenFlagsError error) noexcept;  // in words, for the peer

// Flags of open(2) as a peer sends them, checked bit by bit. O_PATH, O_TMPFILE and O_ASYNC are refused: the
// first two would hand out more than a file's content, the third signals a process by its number.
class OpenFlags {
  public:
    static std::expected<OpenFlags, OpenFlagsError> parse(std::uint32_t flags) noexcept;

    // O_RDWR|O_CREAT needs read, write and create; O_APPEND turns write into append; O_DIRECTORY needs list.
    policy::OperationSet operations() const noexcept { return operations_; }

    // Flags for openat2 of an object that is there: the peer's, and always O_NONBLOCK (no FIFO, no lease may hold the broker
    // up), O_NOCTTY, O_NOFOLLOW and O_CLOEXEC. O_TRUNC is taken out: only an inspected object is truncated.
    std::uint64_t for_openat2() const noexcept;

    // For openat2 of a file that is made with it: without what an opened object might do to the broker.
    std::uint64_t for_new_file() const noexcept;

    bool wants_nonblock() const noexcept;
    bool wants(std::uint32_t flag) const noexcept { return (flags_ & flag) != 0; }
    bool writes() const noexcept;  // O_WRONLY or O_RDWR

  private:
    explicit OpenFlags(std::uint32_t flags, policy::OperationSet operations) noexcept
        : flags_(flags), operations_(operations) {}
    std::uint32_t flags_;
    policy::OperationSet operations_;
};

}  // namespace fdbroker::opener
