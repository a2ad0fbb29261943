// SPDX-License-Identifier: MIT
#include "worker/run/target.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace fdbroker::worker {
namespace {

using proto::UniqueFd;

constexpr std::size_t page_size = 4096;  // the smallest there is: no read crosses a page that is missing
constexpr std::size_t first_read = 256;  // most paths are shorter

std::size_t read_some(pid_t thread, std::uint64_t address, std::span<std::byte> to) {
    const iovec local{to.data(), to.size()};
    const iovec remote{reinterpret_cast<void*>(address), to.size()};
    const ssize_t got = ::process_vm_readv(thread, &local, 1, &remote, 1, 0);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
}

}  // namespace

OrErrno<std::string> Target::read_string(std::uint64_t address, std::size_t most) const {
    std::string text;
    std::array<std::byte, page_size> page;
    while (text.size() < most) {
        const std::size_t left_of_page = page_size - address % page_size;
        const std::size_t at_once = text.empty() ? first_read : page_size;
        const auto wanted = std::span(page).first(std::min({left_of_page, most - text.size(), at_once}));
        const std::size_t got = read_some(thread_, address, wanted);
        if (got == 0) return std::unexpected(EFAULT);
        const auto* bytes = reinterpret_cast<const char*>(page.data());
        const std::size_t length = ::strnlen(bytes, got);
        text.append(bytes, length);
        if (length < got) return text;
        address += got;
    }
    return std::unexpected(ENAMETOOLONG);
}

OrErrno<void> Target::read(std::uint64_t address, std::span<std::byte> to) const {
    if (to.empty() || read_some(thread_, address, to) == to.size()) return {};
    return std::unexpected(EFAULT);
}

OrErrno<void> Target::write(std::uint64_t address, std::span<const std::byte> from) const {
    if (from.empty()) return {};
    const iovec local{const_cast<std::byte*>(from.data()), from.size()};
    const iovec remote{reinterpret_cast<void*>(address), from.size()};
    const ssize_t put = ::process_vm_writev(thread_, &local, 1, &remote, 1, 0);
    if (put == static_cast<ssize_t>(from.size())) return {};
    return std::unexpected(EFAULT);
}

std::string Target::own(std::string_view name) const {
    return fmt::format("{}/{}", thread_, name);
}

OrErrno<std::string> Target::read_link(std::string_view name) const {
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlinkat(proc_.number(), own(name).c_str(), target.data(), target.size());
    if (size < 0) return std::unexpected(errno);
    std::string path(target.data(), static_cast<std::size_t>(size));
    if (path.ends_with(" (deleted)") && path.starts_with('/')) return std::unexpected(ENOENT);
    return path;
}

OrErrno<std::string> Target::path_of(int descriptor) const {
    if (descriptor < 0) return std::unexpected(EBADF);
    auto path = read_link(fmt::format("fd/{}", descriptor));
    if (!path && path.error() == EACCES) {
        const auto copy = duplicate(descriptor);
        if (!copy) return std::unexpected(copy.error());
        path = Target(proc_, ::getpid()).read_link(fmt::format("fd/{}", copy->number()));
    }
    if (path) return path;
    // A file that was removed has a descriptor still.
    return std::unexpected(path.error() == ENOENT && !status_of(descriptor) ? EBADF : path.error());
}

OrErrno<struct stat> Target::status_of(int descriptor) const {
    struct stat status;
    if (descriptor < 0) return std::unexpected(EBADF);
    if (::fstatat(proc_.number(), own(fmt::format("fd/{}", descriptor)).c_str(), &status, 0) == 0)
        return status;
    const auto copy = errno == EACCES ? duplicate(descriptor) : std::unexpected(EBADF);
    if (!copy || ::fstat(copy->number(), &status) != 0) return std::unexpected(EBADF);
    return status;
}

OrErrno<struct statx> Target::full_status_of(int descriptor, unsigned fields) const {
    struct statx status{};
    if (descriptor < 0) return std::unexpected(EBADF);
    if (::statx(proc_.number(), own(fmt::format("fd/{}", descriptor)).c_str(), 0, fields, &status) == 0)
        return status;
    const auto copy = errno == EACCES ? duplicate(descriptor) : std::unexpected(EBADF);
    if (!copy || ::statx(copy->number(), "", AT_EMPTY_PATH, fields, &status) != 0)
        return std::unexpected(EBADF);
    return status;
}

OrErrno<UniqueFd> Target::find(int descriptor) const {
    if (descriptor < 0) return std::unexpected(EBADF);
    UniqueFd found(
        ::openat(proc_.number(), own(fmt::format("fd/{}", descriptor)).c_str(), O_PATH | O_CLOEXEC));
    if (found) return found;
    if (errno == EACCES) return duplicate(descriptor);
    return std::unexpected(EBADF);
}

OrErrno<UniqueFd> Target::duplicate(int descriptor) const {
    // Most often the thread is its process's first, whose number is the process's.
    UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, thread_, 0)));
    if (!handle) {
        const auto whole = process();
        if (!whole) return std::unexpected(whole.error());
        handle = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, *whole, 0)));
    }
    if (!handle) return std::unexpected(errno);
    UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, handle.number(), descriptor, 0)));
    if (!copy) return std::unexpected(errno);
    return copy;
}

OrErrno<UniqueFd> Target::open_own(std::string_view name) const {
    UniqueFd file(::openat(proc_.number(), own(name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return std::unexpected(errno);
    return file;
}

OrErrno<std::string> Target::read_status(std::string_view key) const {
    const auto file = open_own("status");
    if (!file) return std::unexpected(file.error());
    std::array<char, page_size> text;
    const ssize_t size = ::read(file->number(), text.data(), text.size());
    if (size <= 0) return std::unexpected(ESRCH);
    const std::string_view all(text.data(), static_cast<std::size_t>(size));
    const auto at = all.find(key);
    if (at == std::string_view::npos) return std::unexpected(ESRCH);
    const auto value = all.substr(at + key.size());
    return std::string(value.substr(0, value.find('\n')));
}

}  // namespace fdbroker::worker
