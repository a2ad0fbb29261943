// SPDX-License-Identifier: MIT
// The page of `openerctl audit report`: HTML that needs nothing from elsewhere, and in which nothing that a peer wrote is more
// than text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "opener/records/summary.hpp"

namespace fdbroker::records {

// Text of any bytes as HTML shows it, in an element or a quoted attribute. Control characters and bytes that are no UTF-8
// stand as \xHH. Characters that turn the direction of text (U+202A to U+202E, U+2066 to U+2069) stand as \u….
std::string html(std::string_view text);

struct PolicyRule {
    std::string name{};
    std::string at{};  // file:line
};

struct ReportPage {
    std::vector<std::string> files{};
    std::uint64_t malformed = 0;
    std::string first_malformed{};
    std::string policy{};              // the file that unused rules are told of; empty: none was given
    std::vector<PolicyRule> unused{};  // rules of it that no record names
    const Summary* summary = nullptr;
};

// At most this many rows stand in a table of the page.
inline constexpr std::size_t max_rows = 2000;

std::string to_html(const ReportPage& page);

}  // namespace fdbroker::records
