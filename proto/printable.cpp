#include "proto/printable.hpp"

namespace fdbroker::proto {

std::string printable(std::string_view text, LineFeeds line_feeds) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string shown;
    for (const char byte : text) {
        const auto value = static_cast<unsigned char>(byte);
        const bool stays = byte == '\n' && line_feeds == LineFeeds::stay;
        if (!stays && (value < 0x20 || value == 0x7f))
            shown.append("\\x").append(1, digits[value >> 4]).append(1, digits[value & 15]);
        else
            shown += byte;
    }
    return shown;
}

}  // namespace fdbroker::proto
