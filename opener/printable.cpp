#include "opener/printable.hpp"

#include <fmt/format.h>

namespace fdbroker::opener {

std::string printable(std::string_view text, LineFeeds line_feeds) {
    std::string shown;
    for (const char byte : text) {
        const auto value = static_cast<unsigned char>(byte);
        const bool stays = byte == '\n' && line_feeds == LineFeeds::stay;
        if (!stays && (value < 0x20 || value == 0x7f)) {
            shown += fmt::format("\\x{:02x}", value);
        } else {
            shown += byte;
        }
    }
    return shown;
}

}  // namespace fdbroker::opener
