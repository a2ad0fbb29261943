// SPDX-License-Identifier: MIT
// The thread that made a call: its memory, its descriptors, its directory. Everything here goes by the thread's number:
// Listener::is_valid() afterwards says whether that thread was meant.
//
// The descriptors of a process that let nobody see into it (PR_SET_DUMPABLE) cannot be looked up below /proc, but
// duplicated.
//
// Errors are errnos, as the call itself would have them: EFAULT for memory that is not there.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

template <typename T>
using OrErrno = std::expected<T, int>;

class Target {
  public:
    // `proc` is a procfs of this process's pid namespace; it must outlive the object.
    Target(proto::BorrowedFd proc, pid_t thread) : proc_(proc), thread_(thread) {}

    pid_t thread() const { return thread_; }

    // Up to the NUL, which is not part of it, page by page, since a read across a page that is missing fails whole.
    // ENAMETOOLONG: there is none within `most` bytes.
    OrErrno<std::string> read_string(std::uint64_t address, std::size_t most) const;
    // All bytes or EFAULT.
    OrErrno<void> read(std::uint64_t address, std::span<std::byte> to) const;
    OrErrno<void> write(std::uint64_t address, std::span<const std::byte> from) const;

    template <typename T>
    OrErrno<T> read_object(std::uint64_t address) const {
        T value{};
        const auto got = read(address, std::as_writable_bytes(std::span(&value, 1)));
        if (!got) return std::unexpected(got.error());
        return value;
    }
    template <typename T>
    OrErrno<void> write_object(std::uint64_t address, const T& value) const {
        return write(address, std::as_bytes(std::span(&value, 1)));
    }

    // Paths as the program sees them. EBADF: there is no such descriptor; ENOENT: the directory was removed.
    OrErrno<std::string> working_directory() const { return read_link("cwd"); }
    OrErrno<std::string> path_of(int descriptor) const;
    OrErrno<struct stat> status_of(int descriptor) const;
    // The same by statx(2), with those `fields`.
    OrErrno<struct statx> full_status_of(int descriptor, unsigned fields) const;
    // Another descriptor for what `descriptor` is open on; not for reading or writing. EBADF.
    OrErrno<proto::UniqueFd> find(int descriptor) const;
    // A duplicate: offset and flags are shared.
    OrErrno<proto::UniqueFd> duplicate(int descriptor) const;

    OrErrno<pid_t> process() const { return read_status_number<pid_t>("Tgid:", 10); }
    OrErrno<mode_t> umask() const { return read_status_number<mode_t>("Umask:", 8); }

    // The file `name` of /proc/PID/ opened for reading, the link `name` read. `name` is relative and no link but the
    // last component.
    OrErrno<proto::UniqueFd> open_own(std::string_view name) const;
    OrErrno<std::string> read_link(std::string_view name) const;

  private:
    std::string own(std::string_view name) const;
    OrErrno<std::string> read_status(std::string_view key) const;
    template <typename T>
    OrErrno<T> read_status_number(std::string_view key, int base) const {
        const auto text = read_status(key);
        if (!text) return std::unexpected(text.error());
        return static_cast<T>(std::strtol(text->c_str(), nullptr, base));
    }

    proto::BorrowedFd proc_;
    pid_t thread_;
};

}  // namespace fdbroker::worker
