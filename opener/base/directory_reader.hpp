// SPDX-License-Identifier: MIT
// What is in a directory, one entry after the other. Blocks as long as its filesystem does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct DirectoryEntry {
    std::uint64_t inode = 0;
    std::int64_t next = 0;  // where to lseek(2) for what comes behind it
    std::uint8_t type = 0;  // DT_*
    std::string_view name{};
};

class DirectoryReader {
  public:
    // Begins where the descriptor's offset is.
    explicit DirectoryReader(proto::BorrowedFd directory) noexcept : directory_(directory) {}
    // Without `.` and `..`. Points into the reader, until the next call. nullopt: there is no more, or errno_value().
    std::optional<DirectoryEntry> next();
    int errno_value() const noexcept { return errno_value_; }

  private:
    bool fill();
    proto::BorrowedFd directory_;
    std::array<std::byte, 32768> buffer_;
    std::size_t at_ = 0;
    std::size_t size_ = 0;
    int errno_value_ = 0;
};

}  // namespace fdbroker::opener
