// SPDX-License-Identifier: MIT
#include "policy/matching/pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>

namespace fdbroker::policy {
namespace {

template <class T>
using Parsed = std::expected<T, std::string>;

constexpr std::string_view variable_words[variable_count] = {"user", "uid", "group", "gid"};

std::unexpected<std::string> wrong(std::string_view what) {
    return std::unexpected(std::string(what));
}

Parsed<Variable> parse_variable(std::string_view word) {
    for (unsigned index = 0; index < variable_count; ++index)
        if (word == variable_words[index]) return static_cast<Variable>(index);
    return std::unexpected(fmt::format(
        R"(unknown variable "${{{}}}", expected ${{user}}, ${{uid}}, ${{group}} or ${{gid}})", word));
}

int hexadecimal(char digit) noexcept {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

// The escape that begins at `at`: which byte it stands for, and where it ends.
struct Escape {
    char byte = 0;
    std::size_t end = 0;
    bool by_number = false;  // \xHH
};
Parsed<Escape> parse_escape(std::string_view text, std::size_t at) {
    if (at + 1 == text.size()) return wrong(R"(a "\" at the end of a name, expected a byte that it escapes)");
    if (text[at + 1] != 'x') return Escape{text[at + 1], at + 2};
    const int high = at + 2 < text.size() ? hexadecimal(text[at + 2]) : -1;
    const int low = at + 3 < text.size() ? hexadecimal(text[at + 3]) : -1;
    if (high < 0 || low < 0)
        return wrong(R"(a "\x" without two hexadecimal digits, expected one such as \xff)");
    const auto byte = static_cast<char>(high * 16 + low);
    if (byte == '\0' || byte == '/') return wrong(R"(a "\x00" or "\x2f", which no name holds)");
    return Escape{byte, at + 4, true};
}

// Where the token that begins at `at` ends: an escape, a class or a variable is one token, anything else one byte.
Parsed<std::size_t> token_end(std::string_view text, std::size_t at) {
    if (text[at] == '\\') {
        const auto escape = parse_escape(text, at);
        if (!escape) return std::unexpected(escape.error());
        return escape->end;
    }
    if (text.substr(at).starts_with("${")) {
        const std::size_t close = text.find('}', at);
        if (close == std::string_view::npos) return wrong(R"(a "${" without its "}")");
        return close + 1;
    }
    if (text[at] != '[') return at + 1;
    for (std::size_t inside = at + 1; inside < text.size(); ++inside) {
        if (text[inside] == ']') return inside + 1;
        if (text[inside] == '\\') ++inside;
    }
    return wrong(R"(a "[" without its "]" (a class holds no slash; "\[" is the byte itself))");
}

// The texts between the braces that open at `open`, and where the text goes on.
struct Alternatives {
    std::vector<std::string_view> texts{};
    std::size_t end = 0;
};

Parsed<Alternatives> parse_alternatives(std::string_view text, std::size_t open) {
    Alternatives found;
    std::size_t begin = open + 1;
    for (std::size_t at = begin; at < text.size();) {
        const auto end = token_end(text, at);
        if (!end) return std::unexpected(end.error());
        if (text[at] == '{') return wrong("braces within braces, expected {a,b} without another inside");
        if (text[at] == ',' || text[at] == '}') {
            found.texts.push_back(text.substr(begin, at - begin));
            begin = at + 1;
        }
        if (text[at] == '}') {
            if (found.texts.size() == 1)
                return wrong(
                    R"(braces around a single text, expected at least two: {a,b} ("\{" is the byte itself))");
            found.end = *end;
            return found;
        }
        at = *end;
    }
    return wrong(R"(a "{" without its "}" (braces hold no slash; "\{" is the byte itself))");
}

std::unexpected<std::string> too_many_alternatives() {
    return std::unexpected(
        fmt::format("more than {} combinations of {{a,b}}, expected fewer: write several patterns",
                    max_pattern_alternatives));
}

// All texts that a component with braces stands for.
Parsed<std::vector<std::string>> expand_braces(std::string_view text) {
    std::vector<std::string> expanded(1);
    for (std::size_t at = 0; at < text.size();) {
        const auto end = token_end(text, at);
        if (!end) return std::unexpected(end.error());
        if (text[at] == '}') return wrong(R"(a "}" without its "{" ("\}" is the byte itself))");
        if (text[at] != '{') {
            for (std::string& one : expanded) one += text.substr(at, *end - at);
            at = *end;
            continue;
        }
        const auto alternatives = parse_alternatives(text, at);
        if (!alternatives) return std::unexpected(alternatives.error());
        if (expanded.size() * alternatives->texts.size() > max_pattern_alternatives)
            return too_many_alternatives();
        std::vector<std::string> product;
        for (const std::string& head : expanded)
            for (const std::string_view tail : alternatives->texts)
                product.push_back(head + std::string(tail));
        expanded = std::move(product);
        at = alternatives->end;
    }
    return expanded;
}

// A byte of a class, and where the class goes on; `inside` is the text between the brackets.
Parsed<std::uint8_t> class_byte(std::string_view inside, std::size_t& at) {
    if (inside[at] == '[') return wrong(R"(a "[" inside a class, expected "\[")");
    Escape read{inside[at], at + 1};
    if (inside[at] == '\\') {
        const auto escape = parse_escape(inside, at);
        if (!escape) return std::unexpected(escape.error());
        read = *escape;
    }
    at = read.end;
    const auto byte = static_cast<std::uint8_t>(read.byte);
    if (byte >= 0x80 && !read.by_number)
        return wrong(
            "a class with a character of several bytes, expected single bytes (use {a,b} instead, or \\xHH)");
    return byte;
}

Parsed<ByteSet> parse_class(std::string_view inside) {
    const bool negated = inside.starts_with('!');
    if (inside.starts_with('^')) return wrong(R"(a class that begins with "^", expected "[!...]" (or "\^"))");
    if (negated) inside.remove_prefix(1);
    if (inside.empty()) return wrong(R"(a class without a byte in it ("\]" is the bracket itself))");
    ByteSet bytes;
    for (std::size_t at = 0; at < inside.size();) {
        const auto first = class_byte(inside, at);
        if (!first) return std::unexpected(first.error());
        std::uint8_t last = *first;
        if (at + 1 < inside.size() && inside[at] == '-') {
            ++at;
            const auto end = class_byte(inside, at);
            if (!end) return std::unexpected(end.error());
            last = *end;
        }
        if (last < *first) return wrong("a class with a range that runs backwards");
        for (unsigned byte = *first; byte <= last; ++byte) bytes.set(byte);
    }
    return negated ? ~bytes : bytes;
}

// Appends the token text[at, end) to the glob.
Parsed<void> append_token(Glob& glob, std::string_view token) {
    if (token.starts_with("${")) {
        const auto variable = parse_variable(token.substr(2, token.size() - 3));
        if (!variable) return std::unexpected(variable.error());
        glob.append_variable(*variable);
    } else if (token == "*") {
        if (glob.ends_with_any_bytes())
            return wrong(R"(a "**" beside other text, expected it alone between slashes)");
        glob.append_any_bytes();
    } else if (token == "?") {
        glob.append_any_byte();
    } else if (token == "]") {
        return wrong(R"(a "]" without its "[" ("\]" is the byte itself))");
    } else if (token[0] == '[') {
        const auto bytes = parse_class(token.substr(1, token.size() - 2));
        if (!bytes) return std::unexpected(bytes.error());
        glob.append_class(*bytes);
    } else {
        // token_end() has seen that this is an escape.
        glob.append_literal(token[0] == '\\' ? parse_escape(token, 0)->byte : token.back());
    }
    return {};
}

Parsed<Component> parse_component(std::string_view text) {
    if (text.empty()) return wrong("alternatives that leave a name empty");
    Component component;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = token_end(text, at);
        if (!end) return std::unexpected(end.error());
        if (const auto done = append_token(component.glob, text.substr(at, *end - at)); !done)
            return std::unexpected(done.error());
        at = *end;
    }
    if (component.glob.is_literal()) {
        const std::string literal = component.glob.literal();
        if (literal == "." || literal == "..")
            return wrong(R"(a name "." or "..", expected a canonical path)");
        if (literal.size() > NAME_MAX) return wrong("a name of more than 255 bytes, which no file can have");
    }
    return component;
}

using Choices = std::vector<Component>;

Parsed<Choices> parse_choices(std::string_view text) {
    if (text == "**") return Choices{Component{.any_depth = true}};
    const auto expanded = expand_braces(text);
    if (!expanded) return std::unexpected(expanded.error());
    Choices choices;
    for (const std::string& one : *expanded) {
        auto component = parse_component(one);
        if (!component) return std::unexpected(component.error());
        choices.push_back(std::move(*component));
    }
    return choices;
}

Parsed<std::vector<std::string_view>> split(std::string_view text) {
    if (!text.starts_with('/'))
        return wrong(R"(a pattern that does not begin with "/", expected an absolute path)");
    if (text.find('\0') != std::string_view::npos) return wrong("a NUL byte");
    std::vector<std::string_view> names;
    if (text.size() == 1) return names;
    for (std::size_t begin = 1; begin <= text.size();) {
        const std::size_t slash = std::min(text.find('/', begin), text.size());
        if (slash == begin && slash == text.size())
            return wrong(R"(a trailing "/" ("/**" is everything below))");
        if (slash == begin) return wrong("two slashes in a row, expected a canonical path");
        names.push_back(text.substr(begin, slash - begin));
        begin = slash + 1;
    }
    if (names.size() > max_pattern_components)
        return std::unexpected(fmt::format("more than {} names between slashes", max_pattern_components));
    return names;
}

bool too_long(const Pattern& pattern) {
    std::size_t length = 0;
    for (const Component& component : pattern.components) length += 1 + component.glob.literal().size();
    return length > PATH_MAX - 1;
}

}  // namespace

bool Pattern::is_literal() const noexcept {
    return std::ranges::all_of(components, [](const Component& component) {
        return !component.any_depth && component.glob.is_literal();
    });
}

std::string Pattern::head() const {
    std::string path;
    for (const Component& component : components) {
        if (component.any_depth || !component.glob.is_literal()) break;
        path += '/' + component.glob.literal();
    }
    return path.empty() ? "/" : path;
}

std::string Pattern::directory() const {
    std::string path = head();
    if (is_literal()) path.resize(std::max<std::size_t>(path.rfind('/'), 1));
    return path;
}

std::expected<std::vector<Pattern>, std::string> parse_pattern(std::string_view text) {
    const auto names = split(text);
    if (!names) return std::unexpected(names.error());
    std::vector<Pattern> patterns(1);
    patterns.front().components.reserve(names->size());
    for (const std::string_view name : *names) {
        auto choices = parse_choices(name);
        if (!choices) return std::unexpected(choices.error());
        if (patterns.size() * choices->size() > max_pattern_alternatives) return too_many_alternatives();
        if (choices->size() == 1) {
            for (Pattern& pattern : patterns) {
                const bool repeated = choices->front().any_depth && !pattern.components.empty() &&
                                      pattern.components.back().any_depth;
                if (!repeated) pattern.components.push_back(choices->front());
            }
            continue;
        }
        std::vector<Pattern> product;
        for (const Pattern& head : patterns) {
            for (const Component& choice : *choices) {
                product.push_back(head);
                product.back().components.push_back(choice);
            }
        }
        patterns = std::move(product);
    }
    for (const Pattern& pattern : patterns)
        if (pattern.is_literal() && too_long(pattern))
            return wrong("a path of more than 4095 bytes, which no file can have");
    return patterns;
}

}  // namespace fdbroker::policy
