// SPDX-License-Identifier: MIT
#include "opener/base/byte_text.hpp"

#include <cstddef>

namespace fdbroker::opener {

std::string characters_of(std::string_view bytes) {
    std::string text;
    for (const char character : bytes) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte >= 0x80) text += static_cast<char>(0xc0 | byte >> 6);
        text += byte < 0x80 ? character : static_cast<char>(0x80 | (byte & 0x3f));
    }
    return text;
}

std::optional<std::string> bytes_of(std::string_view characters) {
    std::string bytes;
    for (std::size_t i = 0; i < characters.size(); ++i) {
        const auto first = static_cast<unsigned char>(characters[i]);
        if (first < 0x80) {
            bytes += characters[i];
            continue;
        }
        if ((first != 0xc2 && first != 0xc3) || i + 1 == characters.size()) return std::nullopt;
        bytes += static_cast<char>((first & 3U) << 6 | (static_cast<unsigned char>(characters[++i]) & 0x3fU));
    }
    return bytes;
}

}  // namespace fdbroker::opener
