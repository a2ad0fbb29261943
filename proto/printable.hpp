// SPDX-License-Identifier: MIT
// Text from files, names on disk and peers ends on terminals.
#pragma once

#include <string>
#include <string_view>

namespace fdbroker::proto {

enum class LineFeeds { stay, escaped };

// Writes control bytes, bytes that are no UTF-8, and the control characters U+0080 to U+009F as \xHH. Of the last ones,
// a terminal takes U+009B for the beginning of a sequence.
std::string printable(std::string_view text, LineFeeds line_feeds = LineFeeds::stay);

}  // namespace fdbroker::proto
