// SPDX-License-Identifier: MIT
#include "policy/language/spelling.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace fdbroker::policy {
namespace {

constexpr std::size_t longest_word =
    64;  // beyond it nothing is compared: the work is the product of the lengths

bool equal(char left, char right) noexcept {
    return std::tolower(static_cast<unsigned char>(left)) == std::tolower(static_cast<unsigned char>(right));
}

// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
std::size_t distance(std::string_view left, std::string_view right) {
    std::vector<std::size_t> before_last(right.size() + 1);
    std::vector<std::size_t> last(right.size() + 1);
    std::vector<std::size_t> row(right.size() + 1);
    for (std::size_t column = 0; column <= right.size(); ++column) last[column] = column;
    for (std::size_t line = 1; line <= left.size(); ++line) {
        row[0] = line;
        for (std::size_t column = 1; column <= right.size(); ++column) {
            const std::size_t replaced =
                last[column - 1] + (equal(left[line - 1], right[column - 1]) ? 0U : 1U);
            row[column] = std::min({last[column] + 1, row[column - 1] + 1, replaced});
            if (line > 1 && column > 1 && equal(left[line - 1], right[column - 2]) &&
                equal(left[line - 2], right[column - 1]))
                row[column] = std::min(row[column], before_last[column - 2] + 1);
        }
        std::swap(before_last, last);
        std::swap(last, row);
    }
    return last[right.size()];
}

}  // namespace

std::string did_you_mean(std::string_view written, std::span<const std::string_view> words) {
    if (written.empty() || written.size() > longest_word) return {};
    // A third of the letters may be wrong, at least one: "rad" is read, "pth" is paths, "abc" is neither.
    const std::size_t tolerance = std::max<std::size_t>(1, (written.size() + 1) / 3);
    std::size_t best = tolerance + 1;
    std::string_view meant;
    for (const std::string_view word : words) {
        if (word.size() > longest_word) continue;
        const std::size_t apart = distance(written, word);
        if (apart >= best) continue;
        best = apart;
        meant = word;
    }
    return meant.empty() ? std::string() : fmt::format(" (did you mean \"{}\"?)", meant);
}

}  // namespace fdbroker::policy
