// SPDX-License-Identifier: MIT
#include "opener/base/memory_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

constexpr int all_seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

}  // namespace

Result<UniqueFd> make_memory_file(const char* name) {
    UniqueFd file(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file) return proto::system_error("memfd_create");
    return file;
}

Result<void> seal(BorrowedFd file) {
    if (::fcntl(file.number(), F_ADD_SEALS, all_seals) != 0) return proto::system_error("F_ADD_SEALS");
    return {};
}

Result<void> write_all(BorrowedFd file, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file.number(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return proto::system_error("write");
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

Result<std::string> read_sealed(BorrowedFd file) {
    const int seals = ::fcntl(file.number(), F_GET_SEALS);
    if (seals < 0) return proto::system_error("F_GET_SEALS");
    if ((seals & all_seals) != all_seals) return proto::system_error("F_GET_SEALS", "not sealed", EINVAL);
    struct stat status{};
    if (::fstat(file.number(), &status) != 0) return proto::system_error("fstat");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t size =
            ::pread(file.number(), text.data() + done, text.size() - done, static_cast<off_t>(done));
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return proto::system_error("pread");
        done += static_cast<std::size_t>(size);
    }
    return text;
}

}  // namespace fdbroker::opener
