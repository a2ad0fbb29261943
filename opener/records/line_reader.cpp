// SPDX-License-Identifier: MIT
#include "opener/records/line_reader.hpp"

#include <cstring>
#include <utility>

namespace fdbroker::records {

using proto::Result;

namespace {

constexpr std::size_t shown_of_overlong = 256;

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteSource> source)
    : source_(std::move(source)), buffer_(std::make_unique<char[]>(max_line_length + block + line_padding)) {}

// False: the file ends here.
Result<bool> LineReader::fill() {
    if (begin_ != 0) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
        end_ -= std::exchange(begin_, 0);
    }
    const auto count = source_->read({buffer_.get() + end_, max_line_length + block - end_});
    if (!count) return std::unexpected(count.error());
    end_ += *count;
    return *count != 0;
}

Result<std::optional<Line>> LineReader::next() {
    for (std::size_t searched = 0;;) {
        const char* const start = buffer_.get() + begin_;
        const std::size_t size = end_ - begin_;
        const void* const feed = std::memchr(start + searched, '\n', size - searched);
        if (feed != nullptr) {
            const auto length = static_cast<std::size_t>(static_cast<const char*>(feed) - start);
            begin_ += length + 1;
            const bool too_long = length > max_line_length;
            return Line{.text = {start, too_long ? shown_of_overlong : length},
                        .number = ++number_,
                        .too_long = too_long};
        }
        if (size > max_line_length) return overlong();
        searched = size;
        const auto more = fill();
        if (!more) return std::unexpected(more.error());
        if (!*more) return rest_of_file();
    }
}

Result<std::optional<Line>> LineReader::rest_of_file() {
    if (begin_ == end_) return std::nullopt;
    const std::size_t start = std::exchange(begin_, end_);
    return Line{.text = {buffer_.get() + start, end_ - start}, .number = ++number_, .ended = false};
}

// The beginning of the line is kept; the rest is read and thrown away.
Result<std::optional<Line>> LineReader::overlong() {
    constexpr std::size_t shown = shown_of_overlong;
    const std::size_t start = begin_;
    Line line{.text = {buffer_.get(), shown}, .number = ++number_, .too_long = true};
    std::memmove(buffer_.get(), buffer_.get() + start, shown);
    for (;;) {
        begin_ = end_ = shown;
        const auto count = source_->read({buffer_.get() + end_, max_line_length});
        if (!count) return std::unexpected(count.error());
        end_ += *count;
        line.ended = *count != 0;
        if (*count == 0) return line;
        const void* const feed = std::memchr(buffer_.get() + begin_, '\n', *count);
        if (feed == nullptr) continue;
        begin_ = static_cast<std::size_t>(static_cast<const char*>(feed) - buffer_.get()) + 1;
        return line;
    }
}

}  // namespace fdbroker::records
