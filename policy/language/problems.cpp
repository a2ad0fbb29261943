// SPDX-License-Identifier: MIT
#include "policy/language/problems.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace fdbroker::policy {
namespace {

// Messages repeat what a file says, and end on terminals.
std::string printable(const std::string& text) {
    std::string shown;
    for (const char byte : text) {
        const auto value = static_cast<unsigned char>(byte);
        if (value < 0x20 || value == 0x7f) {
            shown += fmt::format("\\x{:02x}", value);
        } else {
            shown += byte;
        }
    }
    return shown;
}

}  // namespace

std::string_view to_string(DiagnosticCode code) noexcept {
    static constexpr std::array<std::string_view, 15> words{
        "unreadable-file", "untrusted-file", "syntax",        "include",      "unknown-key",
        "missing-key",     "wrong-type",     "unknown-word",  "unknown-name", "name-taken",
        "duplicate",       "invalid-value",  "contradiction", "test-failed",  "further"};
    return words[static_cast<std::size_t>(code)];
}

std::string Diagnostic::what() const {
    if (line == 0) return fmt::format("{}: {}", file, text);
    return fmt::format("{}:{}:{}: {}", file, line, column, text);
}

std::uint32_t Problems::add_file(std::string name) {
    files_->push_back(std::move(name));
    return static_cast<std::uint32_t>(files_->size() - 1);
}

void Problems::add(Mark mark, DiagnosticCode code, const std::string& text) {
    if (problems_.size() < max_problems) {
        problems_.push_back({mark, problems_.size(), printable(text), code});
    } else {
        ++further_;
    }
}

Location Problems::location(Mark mark) const {
    return {(*files_)[mark.file], mark.line, mark.column};
}

Mark Problems::mark(const Location& location) const {
    const auto file = std::ranges::find(*files_, location.file);
    return {static_cast<std::uint32_t>(file - files_->begin()), location.line, location.column};
}

void Problems::tolerate(Mark mark, DiagnosticCode code, const std::string& text) {
    if (tolerated_.size() < max_problems)
        tolerated_.push_back({mark, tolerated_.size(), printable(text), code});
}

std::vector<Diagnostic> Problems::in_order(std::vector<Problem> problems) const {
    std::ranges::sort(problems, {},
                      [](const Problem& problem) { return std::tuple(problem.mark, problem.number); });
    std::vector<Diagnostic> diagnostics;
    diagnostics.reserve(problems.size());
    for (Problem& problem : problems)
        diagnostics.push_back({(*files_)[problem.mark.file], problem.mark.line, problem.mark.column,
                               std::move(problem.text), problem.code});
    return diagnostics;
}

std::vector<Diagnostic> Problems::in_order() && {
    std::vector<Diagnostic> diagnostics = in_order(std::move(problems_));
    if (further_ != 0)
        diagnostics.push_back(
            {files_->front(), 0, 0, fmt::format("{} more errors", further_), DiagnosticCode::further});
    return diagnostics;
}

std::vector<Diagnostic> Problems::tolerated_in_order() && {
    return in_order(std::move(tolerated_));
}

}  // namespace fdbroker::policy
