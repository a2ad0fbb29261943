#include "policy/problems.hpp"

#include <fmt/format.h>

#include <algorithm>

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

std::string Diagnostic::what() const {
    if (line == 0) return fmt::format("{}: {}", file, text);
    return fmt::format("{}:{}:{}: {}", file, line, column, text);
}

std::string Diagnostic::excerpt(std::string_view source) const {
    if (line == 0) return {};
    for (unsigned number = 1; number < line; ++number) {
        const std::size_t end = source.find('\n');
        if (end == std::string_view::npos) return {};
        source.remove_prefix(end + 1);
    }
    source = source.substr(0, source.find('\n'));
    if (column > source.size() + 1) return {};
    std::string shown;
    std::string caret;
    for (std::size_t at = 0; at < source.size(); ++at) {
        const auto byte = static_cast<unsigned char>(source[at]);
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) continue;
        shown += source[at];
        const bool goes_on =
            (byte & 0xc0) == 0x80;  // of a character of several bytes, which is one column wide
        if (at + 1 < column && !goes_on) caret += byte == '\t' ? '\t' : ' ';
    }
    return fmt::format("{}\n{}^\n", shown, caret);
}

std::uint32_t Problems::add_file(std::string name) {
    files_->push_back(std::move(name));
    return static_cast<std::uint32_t>(files_->size() - 1);
}

void Problems::add(Mark mark, const std::string& text) {
    if (problems_.size() < max_problems) {
        problems_.push_back({mark, problems_.size(), printable(text)});
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

std::vector<Diagnostic> Problems::in_order() && {
    std::ranges::sort(problems_, {},
                      [](const Problem& problem) { return std::tuple(problem.mark, problem.number); });
    std::vector<Diagnostic> diagnostics;
    diagnostics.reserve(problems_.size());
    for (Problem& problem : problems_)
        diagnostics.push_back(
            {(*files_)[problem.mark.file], problem.mark.line, problem.mark.column, std::move(problem.text)});
    if (further_ != 0)
        diagnostics.push_back({files_->front(), 0, 0, fmt::format("{} more errors", further_)});
    return diagnostics;
}

}  // namespace fdbroker::policy
