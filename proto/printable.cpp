// SPDX-License-Identifier: MIT
#include "proto/printable.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace fdbroker::proto {

namespace {

struct Sequence {
    unsigned char least_first, max_first, least_second, max_second;
    std::size_t length;
};
// The well-formed ones above ASCII (The Unicode Standard, table 3-7), but for U+0080 to U+009F.
constexpr Sequence sequences[] = {
    {0xc2, 0xc2, 0xa0, 0xbf, 2}, {0xc3, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

// How many bytes at the beginning of `text`, which is not empty, are a character that a terminal shows; 0: none are.
std::size_t shown_length(std::string_view text) {
    const auto at = [text](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    if (at(0) < 0x80) return at(0) >= 0x20 && at(0) != 0x7f ? 1 : 0;
    const auto* const sequence = std::ranges::find_if(sequences, [&](const Sequence& each) {
        return at(0) >= each.least_first && at(0) <= each.max_first;
    });
    if (sequence == std::end(sequences) || text.size() < sequence->length) return 0;
    if (at(1) < sequence->least_second || at(1) > sequence->max_second) return 0;
    const bool continues = std::ranges::all_of(text.substr(2, sequence->length - 2), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80;
    });
    return continues ? sequence->length : 0;
}

}  // namespace

std::string printable(std::string_view text, LineFeeds line_feeds) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string shown;
    while (!text.empty()) {
        std::size_t length = shown_length(text);
        if (text.front() == '\n' && line_feeds == LineFeeds::stay) length = 1;
        shown += text.substr(0, length);
        if (length == 0) {
            const auto value = static_cast<unsigned char>(text.front());
            shown.append("\\x").append(1, digits[value >> 4]).append(1, digits[value & 15]);
            length = 1;
        }
        text.remove_prefix(length);
    }
    return shown;
}

}  // namespace fdbroker::proto
