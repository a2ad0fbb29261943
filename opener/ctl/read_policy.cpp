// SPDX-License-Identifier: MIT
#include "opener/ctl/read_policy.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cwchar>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/ctl/json.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/policy_source/policy_file.hpp"

namespace fdbroker::ctl {

namespace {

constexpr std::string_view indent = "    ";
constexpr std::size_t max_columns = 120;  // printed of a source line

// A character as it is shown, where it stands, and how many columns it takes.
struct Shown {
    std::string text{};
    std::size_t offset = 0;
    std::size_t width = 1;
};

// Control and unknown characters show as question marks: a policy may come from anywhere before it is valid.
std::vector<Shown> characters(std::string_view line) {
    std::vector<Shown> all;
    std::mbstate_t state{};
    for (std::size_t offset = 0; offset < line.size();) {
        wchar_t character = 0;
        const std::size_t size = std::mbrtowc(&character, line.data() + offset, line.size() - offset, &state);
        if (size == 0 || size > line.size() - offset) {  // a NUL byte, or what the locale cannot read
            state = {};
            all.push_back({.text = "?", .offset = offset++});
            continue;
        }
        const int width = character == L'\t' ? -1 : ::wcwidth(character);
        if (width >= 0) {
            all.push_back({std::string(line.substr(offset, size)), offset, static_cast<std::size_t>(width)});
        } else {
            all.push_back({.text = character == L'\t' ? " " : "?", .offset = offset});
        }
        offset += size;
    }
    return all;
}

std::string_view line_of(std::string_view text, unsigned number) {
    for (; number > 1; --number) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return {};
        text.remove_prefix(end + 1);
    }
    std::string_view line = text.substr(0, text.find('\n'));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

void print_diagnostic(const policy::Diagnostic& diagnostic, const PolicyFiles& files) {
    if (!is_terminal(STDERR_FILENO)) {
        fmt::print(stderr, "{} [{}]\n", printable(diagnostic.what()), to_string(diagnostic.code));
        return;
    }
    const bool colour = takes_colour(STDERR_FILENO);
    const std::string what = printable(diagnostic.what());
    const std::size_t place = what.size() - std::min(what.size(), printable(diagnostic.text).size());
    fmt::print(stderr, "{}{} [{}]\n", painted(what.substr(0, place), Colour::bold, colour),
               what.substr(place), to_string(diagnostic.code));
    const auto text = files.texts.find(diagnostic.file);
    if (text == files.texts.end() || diagnostic.line == 0) return;
    const std::string excerpt = source_excerpt(text->second, diagnostic.line, diagnostic.column);
    const std::size_t caret = excerpt.rfind('^');
    if (caret == std::string::npos) return;
    fmt::print(stderr, "{}{}\n", excerpt.substr(0, caret), painted("^", Colour::red, colour));
}

// A pipe, for who reads: `policy check <(make-policy)`. Nothing: it is none.
proto::UniqueFd open_pipe(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0 || !S_ISFIFO(status.st_mode)) return {};
    return proto::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

PolicyFiles read_policy(const std::string& path, policy::OwnTests own_tests) {
    const proto::UniqueFd pipe = open_pipe(path);
    const bool from_stream = path == "-" || pipe;
    auto source = from_stream
                      ? opener::read_policy_stream(pipe ? pipe.borrow() : proto::BorrowedFd(STDIN_FILENO),
                                                   path == "-" ? "<stdin>" : path)
                      : opener::read_policy_file(path);
    if (!source) return {.policy = std::unexpected(std::vector{std::move(source.error())})};
    std::map<std::string, std::string> texts{{source->name, source->text}};
    const auto read_fragments =
        [&texts, read = opener::fragment_reader(from_stream ? "./" : path)](const std::string& pattern) {
            auto fragments = read(pattern);
            if (fragments)
                for (const policy::Source& fragment : *fragments) texts.emplace(fragment.name, fragment.text);
            return fragments;
        };
    auto policy = policy::load(*source, read_fragments, opener::SystemAccounts{}, {.own_tests = own_tests});
    return {.policy = std::move(policy), .texts = std::move(texts)};
}

opener::ExitStatus status_of(const PolicyFiles& files) {
    const auto unreadable = [](const policy::Diagnostic& diagnostic) {
        return diagnostic.code == policy::DiagnosticCode::unreadable_file;
    };
    return std::ranges::all_of(files.policy.error(), unreadable) ? opener::exit_failed : opener::exit_policy;
}

void print_diagnostics(const PolicyFiles& files) {
    for (const policy::Diagnostic& diagnostic : files.policy.error()) print_diagnostic(diagnostic, files);
}

opener::ExitStatus report_diagnostics(const PolicyFiles& files, bool as_json) {
    if (!as_json) {
        print_diagnostics(files);
        return status_of(files);
    }
    nlohmann::json diagnostics = nlohmann::json::array();
    for (const policy::Diagnostic& diagnostic : files.policy.error()) {
        nlohmann::json one = to_json(policy::Location{diagnostic.file, diagnostic.line, diagnostic.column});
        one["code"] = to_string(diagnostic.code);
        one["severity"] = "error";
        one["message"] = diagnostic.text;
        diagnostics.push_back(std::move(one));
    }
    print_json({{"valid", false}, {"diagnostics", std::move(diagnostics)}});
    return status_of(files);
}

std::string source_excerpt(const std::string& text, unsigned line, unsigned column) {
    const std::string_view source = line_of(text, line);
    if (source.empty() || column == 0 || column > source.size() + 1) return {};
    const std::vector<Shown> all = characters(source);
    const auto caret = static_cast<std::size_t>(
        std::ranges::find_if(all, [&](const Shown& one) { return one.offset + 1 >= column; }) - all.begin());
    const std::size_t first = caret > max_columns / 2 ? caret - max_columns / 2 : 0;
    const std::size_t end = std::min(all.size(), first + max_columns);
    std::string shown(indent);
    std::size_t width = 0;
    for (std::size_t index = first; index < end; ++index) {
        shown += all[index].text;
        if (index < caret) width += all[index].width;
    }
    return fmt::format("{}\n{}{}^", shown, indent, std::string(width, ' '));
}

unsigned character_column(const std::string& text, unsigned line, unsigned column) {
    if (column == 0) return 0;
    const std::string_view before = line_of(text, line).substr(0, column - 1);
    const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80; };
    return column - static_cast<unsigned>(std::ranges::count_if(before, continues));
}

}  // namespace fdbroker::ctl
