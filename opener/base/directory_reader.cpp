// SPDX-License-Identifier: MIT
#include "opener/base/directory_reader.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace fdbroker::opener {

bool DirectoryReader::fill() {
    const long size = ::syscall(SYS_getdents64, directory_.number(), buffer_.data(), buffer_.size());
    if (size < 0) errno_value_ = errno;
    at_ = 0;
    size_ = size < 0 ? 0 : static_cast<std::size_t>(size);
    return size > 0;
}

std::optional<DirectoryEntry> DirectoryReader::next() {
    for (;;) {
        if (at_ == size_ && !fill()) return std::nullopt;
        // getdents64(2): inode, offset, size, type, name.
        const std::byte* const from = buffer_.data() + at_;
        DirectoryEntry entry;
        std::uint16_t size = 0;
        std::memcpy(&entry.inode, from, 8);
        std::memcpy(&entry.next, from + 8, 8);
        std::memcpy(&size, from + 16, 2);
        std::memcpy(&entry.type, from + 18, 1);
        entry.name = reinterpret_cast<const char*>(from) + 19;
        at_ += size;
        if (entry.name != "." && entry.name != "..") return entry;
    }
}

}  // namespace fdbroker::opener
