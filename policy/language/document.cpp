// SPDX-License-Identifier: MIT
#include "policy/language/document.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <istream>
#include <streambuf>
#include <unordered_map>

namespace fdbroker::policy {
namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

// Reads memory without a copy.
class MemoryBuffer : public std::streambuf {
  public:
    explicit MemoryBuffer(std::string_view text) {
        // streambuf's interface takes mutable pointers; nothing here writes.
        char* const begin = const_cast<char*>(text.data());
        setg(begin, begin, begin + text.size());
    }
};

// Length of the UTF-8 sequence at the head of `text`, 0 if it is not valid (RFC 3629).
std::size_t sequence_length(std::string_view text) noexcept {
    const auto byte = [&](std::size_t index) { return static_cast<std::uint8_t>(text[index]); };
    const auto lead = byte(0);
    if (lead < 0x80) return 1;
    std::size_t length = 2;
    if (lead >= 0xe0) length = 3;
    if (lead >= 0xf0) length = 4;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
    for (std::size_t index = 1; index < length; ++index)
        if ((byte(index) & 0xc0) != 0x80) return 0;
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && byte(1) > 0x9f) return 0;  // surrogate
    if (lead == 0xf0 && byte(1) < 0x90) return 0;  // overlong
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
    return length;
}

// yaml-cpp drops NUL bytes and replaces invalid UTF-8 without a word, so it never sees them.
bool check_bytes(std::string_view text, std::uint32_t file, Problems& problems) {
    Mark mark{file, 1, 1};
    for (std::size_t at = 0; at < text.size();) {
        const auto byte = static_cast<std::uint8_t>(text[at]);
        const bool control = (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f;
        if (control) {
            problems.add(mark, DiagnosticCode::syntax,
                         byte == 0 ? "a NUL byte, expected text"
                                   : fmt::format("a control character (0x{:02x}), expected text", byte));
            return false;
        }
        const std::size_t length = sequence_length(text.substr(at));
        if (length == 0) {
            problems.add(mark, DiagnosticCode::syntax, "bytes that are not valid UTF-8, expected text");
            return false;
        }
        at += length;
        mark.column += static_cast<std::uint32_t>(length);
        if (byte == '\n') {
            ++mark.line;
            mark.column = 1;
        }
    }
    return true;
}

// A line that begins with % before the document is a directive; yaml-cpp obeys or drops it.
bool check_directives(std::string_view text, std::uint32_t file, Problems& problems) {
    for (std::uint32_t line = 1; !text.empty(); ++line) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::size_t word = std::min(text.find_first_not_of(" \t\r"), end);
        if (word != end && text[word] == '%') {
            problems.add({file, line, static_cast<std::uint32_t>(word + 1)}, DiagnosticCode::syntax,
                         "a YAML directive, expected none");
            return false;
        }
        if (word != end && text[word] != '#') return true;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return true;
}

constexpr std::string_view no_break_space = "\xc2\xa0";
constexpr std::string_view no_break_space_found =
    "a no-break space (U+00A0), which is text in YAML, expected a space";

// Where a no-break space stands in for a space that YAML would have needed: at the head of a line, or after one of the
// characters that a space may follow. Beside a text it is the text's.
bool is_misplaced(std::string_view text, std::size_t at) noexcept {
    while (at >= 2 && text.substr(at - 2, 2) == no_break_space) at -= 2;
    return at == 0 || std::string_view(" \t\n\r:-,[{}]?").contains(text[at - 1]);
}

// The first of them up to the end of the line `last`, counted from 1.
std::optional<Mark> find_misplaced(std::string_view text, std::uint32_t file, std::uint32_t last) {
    Mark mark{file, 1, 1};
    for (std::size_t at = 0; at < text.size() && mark.line <= last; ++at, ++mark.column) {
        if (text.substr(at).starts_with(no_break_space) && is_misplaced(text, at)) return mark;
        if (text[at] != '\n') continue;
        ++mark.line;
        mark.column = 0;
    }
    return std::nullopt;
}

// Ends the parsing of a document whose error has been told.
class Abandoned : public std::exception {};

class TreeBuilder : public YAML::EventHandler {
  public:
    TreeBuilder(std::string_view text, std::uint32_t file, Problems& problems)
        : problems_(problems), text_(text), file_(file) {}

    std::optional<Node> take() && { return std::move(root_); }

    void OnDocumentStart(const YAML::Mark&) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        refuse_anchor(mark, anchor);
        refuse_tag(mark, "");
        add({.kind = Node::Kind::null, .mark = place_of_nothing(mark)});
    }

    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
        problems_.add(place(mark), DiagnosticCode::syntax,
                      "an alias (*name), expected the value itself (\"*...\" for a text that begins so)");
        add({.kind = Node::Kind::broken, .mark = place(mark)});
    }

    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& value) override {
        refuse_anchor(mark, anchor);
        refuse_tag(mark, tag);
        refuse_open_quote(mark);
        if (tag == "?") refuse_no_break_space(mark, value);
        // yaml-cpp calls a plain scalar "?" and a quoted or block one "!".
        add({.kind = Node::Kind::scalar, .quoted = tag == "!", .mark = place(mark), .text = value});
    }

    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        open(Node::Kind::sequence, mark, tag, anchor);
    }
    void OnSequenceEnd() override { close(); }

    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        open(Node::Kind::mapping, mark, tag, anchor);
    }
    void OnMapEnd() override {
        check_keys(open_.back());
        close();
    }

  protected:
    Mark place(const YAML::Mark& mark) const {
        return {file_, static_cast<std::uint32_t>(mark.line + 1),
                static_cast<std::uint32_t>(mark.column + 1)};
    }
    Problems& problems_;

  private:
    // Where nothing stands after a key, yaml-cpp's mark is at what comes next; the key is what should be looked at.
    Mark place_of_nothing(const YAML::Mark& mark) const {
        const bool value = !open_.empty() && open_.back().kind == Node::Kind::mapping &&
                           open_.back().children.size() % 2 == 1;
        return value ? open_.back().children.back().mark : place(mark);
    }

    void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
        if (anchor != 0)
            problems_.add(place(mark), DiagnosticCode::syntax, "an anchor (&name), expected none");
    }

    // A `!` alone looks to the handler like quotes, so the text is asked as well.
    void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
        const auto at = static_cast<std::size_t>(mark.pos);
        const bool written = at < text_.size() && text_[at] == '!';
        if (written || (tag != "?" && tag != "!" && !tag.empty()))
            problems_.add(place(mark), DiagnosticCode::syntax,
                          "a tag (!name), expected none (\"!...\" for a text that begins so)");
    }

    // In a plain text that begins with one, or whose key it was to end.
    void refuse_no_break_space(const YAML::Mark& mark, std::string_view value) {
        std::size_t at = value.starts_with(no_break_space) ? 0 : std::string_view::npos;
        for (const std::string_view before : {":\xc2\xa0", "-\xc2\xa0"}) {
            const bool begins = before.front() != '-' || value.starts_with(before);
            if (const std::size_t found = value.find(before); begins && found != std::string_view::npos)
                at = std::min(at, found + 1);
        }
        if (at == std::string_view::npos) return;
        Mark told = place(mark);
        told.column += static_cast<std::uint32_t>(at);
        problems_.add(told, DiagnosticCode::syntax, std::string(no_break_space_found));
    }

    // yaml-cpp closes a quote at the end of the file when white space comes last: a file cut short would load.
    void refuse_open_quote(const YAML::Mark& mark) {
        const auto begin = static_cast<std::size_t>(mark.pos);
        if (begin >= text_.size() || (text_[begin] != '"' && text_[begin] != '\'')) return;
        const char quote = text_[begin];
        std::size_t at = begin + 1;
        for (; at < text_.size(); ++at) {
            const bool doubled = quote == '\'' && text_.substr(at).starts_with("''");
            const bool escape = quote == '"' && text_[at] == '\\';
            if (doubled || escape) {
                ++at;
            } else if (text_[at] == quote) {
                return;
            }
        }
        problems_.add(place(mark), DiagnosticCode::syntax, "a quote that is not closed");
    }

    void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
        refuse_anchor(mark, anchor);
        refuse_tag(mark, tag);
        if (open_.size() == max_document_depth) {
            problems_.add(place(mark), DiagnosticCode::syntax,
                          fmt::format("nested more than {} deep", max_document_depth));
            throw Abandoned();
        }
        open_.push_back({.kind = kind, .mark = place(mark)});
    }

    void close() {
        Node node = std::move(open_.back());
        open_.pop_back();
        // A policy of 100,000 rules has a million nodes.
        node.children.shrink_to_fit();
        add(std::move(node));
    }

    void add(Node node) {
        if (open_.empty()) {
            root_ = std::move(node);
        } else {
            open_.back().children.push_back(std::move(node));
        }
    }

    void check_keys(const Node& mapping) {
        for (std::size_t index = 0; index < mapping.children.size(); index += 2) {
            const Node& key = mapping.children[index];
            if (key.kind != Node::Kind::scalar && key.kind != Node::Kind::broken)
                problems_.add(key.mark, DiagnosticCode::syntax, "a key that is not a word");
        }
        find_repeated(mapping.children, 2, [this](const Node& key, const Node& first) {
            problems_.add(
                key.mark, DiagnosticCode::duplicate,
                fmt::format("duplicate key \"{}\", the first is at line {}", key.text, first.mark.line));
        });
    }

    std::string_view text_;
    std::uint32_t file_;
    std::vector<Node> open_{};
    std::optional<Node> root_{};
};

// Sees whether anything stands after the first document.
class NothingMore : public TreeBuilder {
  public:
    using TreeBuilder::TreeBuilder;
    void OnDocumentStart(const YAML::Mark& mark) override {
        problems_.add(place(mark), DiagnosticCode::syntax,
                      "a second document, or text that does not belong to the first, expected nothing more");
        throw Abandoned();
    }
};

}  // namespace

void find_repeated(std::span<const Node> nodes, std::size_t step,
                   const std::function<void(const Node& later, const Node& first)>& repeated) {
    const auto is_scalar = [](const Node& node) { return node.kind == Node::Kind::scalar; };
    // Nearly all are so short that a table of hashes costs more than it saves.
    if (constexpr std::size_t few = 16; nodes.size() <= few * step) {
        for (std::size_t later = 0; later < nodes.size(); later += step)
            for (std::size_t first = 0; is_scalar(nodes[later]) && first < later; first += step)
                if (is_scalar(nodes[first]) && nodes[first].text == nodes[later].text) {
                    repeated(nodes[later], nodes[first]);
                    break;
                }
        return;
    }
    std::unordered_map<std::string_view, const Node*> seen;
    for (std::size_t index = 0; index < nodes.size(); index += step) {
        if (!is_scalar(nodes[index])) continue;
        const auto [first, is_new] = seen.try_emplace(nodes[index].text, &nodes[index]);
        if (!is_new) repeated(nodes[index], *first->second);
    }
}

std::optional<Node> parse_document(std::string_view text, std::uint32_t file, Problems& problems) {
    if (text.size() > max_document_bytes) {
        problems.add({file}, DiagnosticCode::syntax, "more than 32 MiB");
        return std::nullopt;
    }
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    if (!check_bytes(text, file, problems) || !check_directives(text, file, problems)) return std::nullopt;

    MemoryBuffer buffer(text);
    std::istream stream(&buffer);
    TreeBuilder tree(text, file, problems);
    try {
        YAML::Parser parser(stream);
        parser.HandleNextDocument(tree);
        NothingMore nothing(text, file, problems);
        parser.HandleNextDocument(nothing);
    } catch (const Abandoned&) {
        return std::nullopt;
    } catch (const YAML::Exception& error) {
        Mark mark{file};
        if (!error.mark.is_null())
            mark = {file, static_cast<std::uint32_t>(error.mark.line + 1),
                    static_cast<std::uint32_t>(error.mark.column + 1)};
        if (const auto space = find_misplaced(text, file, mark.line))
            problems.add(*space, DiagnosticCode::syntax, std::string(no_break_space_found));
        problems.add(mark, DiagnosticCode::syntax, fmt::format("not valid YAML: {}", error.msg));
        return std::nullopt;
    }
    return std::move(tree).take();
}

}  // namespace fdbroker::policy
