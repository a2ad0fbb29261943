// SPDX-License-Identifier: MIT
#include "opener/resolve/open_flags.hpp"

#include <fcntl.h>

namespace fdbroker::opener {

using policy::Operation;
using policy::OperationSet;

namespace {

// The kernel's value (asm-generic/fcntl.h), which 32-bit peers and peers with flags of their own making send; glibc defines
// O_LARGEFILE as 0 on 64-bit.
constexpr std::uint32_t kernel_largefile = 0100000;

constexpr std::uint32_t accepted = O_ACCMODE | O_APPEND | O_CREAT | O_EXCL | O_TRUNC | O_DIRECTORY |
                                   O_NOFOLLOW | O_SYNC | O_DSYNC | O_NOATIME | O_DIRECT | O_NONBLOCK |
                                   O_NOCTTY | O_CLOEXEC | kernel_largefile;

}  // namespace

std::string_view to_string(OpenFlagsError error) noexcept {
    switch (error) {
        case OpenFlagsError::access_mode:
            return "access mode 3 is not a mode";
        case OpenFlagsError::unknown_bit:
            return "a flag that cannot be used through a broker";
        case OpenFlagsError::truncate_readonly:
            return "O_TRUNC without write access";
        case OpenFlagsError::create_directory:
            return "O_CREAT with O_DIRECTORY";
    }
    return "";
}

std::expected<OpenFlags, OpenFlagsError> OpenFlags::parse(std::uint32_t flags) noexcept {
    const std::uint32_t access = flags & O_ACCMODE;
    if (access == O_ACCMODE) return std::unexpected(OpenFlagsError::access_mode);
    // O_TMPFILE contains O_DIRECTORY, so its own bit is what `accepted` lacks.
    if ((flags & ~accepted) != 0) return std::unexpected(OpenFlagsError::unknown_bit);
    if (access == O_RDONLY && (flags & O_TRUNC) != 0)
        return std::unexpected(OpenFlagsError::truncate_readonly);
    if ((flags & O_CREAT) != 0 && (flags & O_DIRECTORY) != 0)
        return std::unexpected(OpenFlagsError::create_directory);

    OperationSet operations;
    if ((flags & O_DIRECTORY) != 0) {
        operations.insert(Operation::list);
    } else if (access != O_WRONLY) {
        operations.insert(Operation::read);
    }
    if (access != O_RDONLY) {
        operations.insert((flags & O_APPEND) != 0 ? Operation::append : Operation::write);
    }
    if ((flags & O_CREAT) != 0) operations.insert(Operation::create);
    if ((flags & O_TRUNC) != 0) operations.insert(Operation::truncate);
    return OpenFlags(flags, operations);
}

std::uint64_t OpenFlags::for_openat2() const noexcept {
    constexpr std::uint32_t not_of_what_is_there = kernel_largefile | O_CREAT | O_EXCL | O_TRUNC;
    return (flags_ & ~not_of_what_is_there) | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC;
}

std::uint64_t OpenFlags::for_new_file() const noexcept {
    return wants_nonblock() ? for_openat2() : for_openat2() & ~std::uint64_t{O_NONBLOCK};
}

bool OpenFlags::writes() const noexcept {
    return (flags_ & O_ACCMODE) != O_RDONLY;
}

bool OpenFlags::wants_nonblock() const noexcept {
    return (flags_ & O_NONBLOCK) != 0;
}

}  // namespace fdbroker::opener
