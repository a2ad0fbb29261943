// SPDX-License-Identifier: MIT
// The lines of a file of records, in constant memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "opener/records/byte_source.hpp"
#include "proto/error.hpp"

namespace fdbroker::records {

// Longer than any record (max_line of opener/audit/audit_record.hpp) by far.
inline constexpr std::size_t max_line_length = std::size_t{1} << 20;
// Bytes behind a line that may be read, whatever they are (SIMDJSON_PADDING).
inline constexpr std::size_t line_padding = 64;

struct Line {
    std::string_view text{};   // without the line feed; valid until the next line is asked for
    std::uint64_t number = 0;  // from 1
    bool ended = true;         // false: the file ends without a line feed
    bool too_long = false;     // longer than max_line_length; the text is its beginning
};

class LineReader {
  public:
    explicit LineReader(std::unique_ptr<ByteSource> source);

    // nullopt: the end. Blocks as ByteSource::read() does.
    proto::Result<std::optional<Line>> next();
    std::uint64_t consumed() const noexcept { return source_->consumed(); }

  private:
    static constexpr std::size_t block = std::size_t{1} << 20;

    proto::Result<bool> fill();
    proto::Result<std::optional<Line>> rest_of_file();
    proto::Result<std::optional<Line>> overlong();

    std::unique_ptr<ByteSource> source_;
    std::unique_ptr<char[]> buffer_;
    std::size_t begin_ = 0;  // where the next line begins
    std::size_t end_ = 0;    // where the bytes that were read end
    std::uint64_t number_ = 0;
};

}  // namespace fdbroker::records
