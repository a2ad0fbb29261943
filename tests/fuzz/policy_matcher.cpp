// SPDX-License-Identifier: MIT
// Decisions of the compiled policy against those of the reference. One line for each rule: `a` or `d`, a letter that
// picks the operations, `+` or `-` (does the peer hold the role?), the pattern. The last line: a letter, the path.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "policy/matching/pattern.hpp"
#include "tests/support/policy_reference.hpp"

namespace {

using namespace fdbroker;
using enum policy::Operation;

// The reference takes exponential time.
constexpr std::size_t longest_line = 40;
constexpr std::size_t max_lines = 12;

policy::OperationSet operations_of(char letter) {
    static const policy::OperationSet sets[] = {{read},
                                                {write},
                                                {stat},
                                                {read, stat},
                                                {read, write, create},
                                                {list, read},
                                                policy::OperationSet::all(),
                                                {stat, list}};
    return sets[static_cast<unsigned char>(letter) % std::size(sets)];
}

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty() && lines.size() < max_lines) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        lines.emplace_back(text.substr(0, std::min(end, longest_line)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::string> lines = lines_of({reinterpret_cast<const char*>(data), size});
    if (lines.empty() || lines.back().size() < 2) return 0;
    const std::string last = lines.back();
    lines.pop_back();
    const std::string text = last.substr(1);
    const auto path = policy::RequestPath::parse(text);
    if (!path) return 0;

    std::vector<test::ReferenceRule> rules;
    for (const std::string& line : lines) {
        if (line.size() < 4 || !policy::parse_pattern(line.substr(3))) continue;
        rules.push_back({line[0] == 'a', operations_of(line[1]), line[2] != '-', line.substr(3)});
    }
    const policy::PeerIdentity peer{.uid = 1000, .gid = 50, .user = "ab", .group = "a/"};
    const std::string difference = test::difference(rules, operations_of(last[0]), *path, peer);
    if (difference.empty()) return 0;
    std::cerr << difference << '\n';
    std::abort();
}
