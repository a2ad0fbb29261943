// Text from files, names on disk and peers ends on terminals.
#pragma once

#include <string>
#include <string_view>

namespace fdbroker::proto {

enum class LineFeeds { stay, escaped };

// Control bytes as \xHH. What is above ASCII stays, since it may be UTF-8.
std::string printable(std::string_view text, LineFeeds line_feeds = LineFeeds::stay);

}  // namespace fdbroker::proto
