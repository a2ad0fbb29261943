// SPDX-License-Identifier: MIT
#include "policy/language/reader.hpp"

#include <fmt/format.h>

#include <charconv>

#include "policy/language/spelling.hpp"

namespace fdbroker::policy {
namespace {

constexpr std::size_t longest_name = 64;
constexpr std::chrono::milliseconds longest_time = std::chrono::hours(1);

constexpr std::size_t max_suggestions = 200;
constexpr std::size_t max_words = 1000;

std::string_view kind_words(const Node& node) {
    switch (node.kind) {
        case Node::Kind::null:
            return "nothing";
        case Node::Kind::scalar:
            return "a single value";
        case Node::Kind::sequence:
            return "a list";
        case Node::Kind::mapping:
            return "a mapping";
        case Node::Kind::broken:
            break;
    }
    return "";
}

// The decimal number (no sign, no leading zero) at the head of `text`, and the rest.
struct Numeral {
    std::uint64_t value = 0;
    std::string_view rest{};
};

std::optional<Numeral> numeral(std::string_view text) {
    Numeral found;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), found.value);
    if (error != std::errc{}) return std::nullopt;
    const auto digits = static_cast<std::size_t>(end - text.data());
    if (digits > 1 && text.front() == '0') return std::nullopt;
    found.rest = text.substr(digits);
    return found;
}

struct Unit {
    std::string_view word;
    std::uint64_t factor;
};

template <std::size_t count>
std::optional<std::uint64_t> with_unit(std::string_view text, const Unit (&units)[count]) {
    const auto number = numeral(text);
    if (!number) return std::nullopt;
    for (const Unit& unit : units) {
        if (unit.word != number->rest) continue;
        std::uint64_t product = 0;
        if (__builtin_mul_overflow(number->value, unit.factor, &product)) return std::nullopt;
        return product;
    }
    return std::nullopt;
}

constexpr Unit sizes[] = {{"", 1},           {"B", 1},          {"KiB", 1U << 10},
                          {"MiB", 1U << 20}, {"GiB", 1U << 30}, {"TiB", 1ULL << 40}};
constexpr Unit times[] = {{"ms", 1}, {"s", 1000}, {"min", 60'000}};

std::string prefix(std::string_view what) {
    return what.empty() ? std::string() : fmt::format("{}: ", what);
}

bool name_byte(char byte) noexcept {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '.' || byte == '_' || byte == '-';
}

}  // namespace

void Reader::wrong(Mark mark, std::string_view what, DiagnosticCode code) {
    problems_.add(mark, code, scope_.empty() ? std::string(what) : fmt::format("{}: {}", scope_, what));
}

void Reader::tolerate(Mark mark, std::string_view what) {
    problems_.tolerate(mark, DiagnosticCode::unknown_name,
                       scope_.empty() ? std::string(what) : fmt::format("{}: {}", scope_, what));
}

std::string Reader::meant(std::string_view written, std::span<const std::string_view> words) const {
    if (problems_.count() >= max_suggestions || words.size() > max_words) return {};
    return did_you_mean(written, words);
}

bool Reader::is_word(const Node& node, std::string_view word) {
    return node.kind == Node::Kind::scalar && node.text == word;
}

std::optional<std::string> Reader::text(const Node& node, std::string_view what,
                                        std::span<const std::string_view>) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind != Node::Kind::scalar) {
        wrong(node.mark, fmt::format("{}: {}, expected a text", what, kind_words(node)),
              DiagnosticCode::wrong_type);
        return std::nullopt;
    }
    return node.text;
}

std::optional<bool> Reader::truth(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind == Node::Kind::scalar && !node.quoted) {
        if (node.text == "true") return true;
        if (node.text == "false") return false;
    }
    wrong(node.mark, fmt::format("{}: expected true or false", what), DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::optional<std::uint64_t> Reader::number(const Node& node, std::string_view what, std::uint64_t least,
                                            std::uint64_t most) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind == Node::Kind::scalar && !node.quoted) {
        const auto found = numeral(node.text);
        if (found && found->rest.empty() && found->value >= least && found->value <= most)
            return found->value;
    }
    wrong(node.mark, fmt::format("{}: expected a number from {} to {}", what, least, most),
          DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::optional<std::uint64_t> Reader::size(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind == Node::Kind::scalar)
        if (const auto bytes = with_unit(node.text, sizes)) return bytes;
    const bool is_number = node.kind == Node::Kind::scalar && !node.text.empty() &&
                           node.text.front() >= '0' && node.text.front() <= '9';
    wrong(node.mark, fmt::format("{}: expected a size such as 4096, 64KiB, 10MiB or 2GiB", what),
          is_number ? DiagnosticCode::invalid_value : DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::optional<std::chrono::milliseconds> Reader::time(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind == Node::Kind::scalar) {
        const auto found = with_unit(node.text, times);
        if (found && *found >= 1 && *found <= static_cast<std::uint64_t>(longest_time.count()))
            return std::chrono::milliseconds(*found);
    }
    wrong(node.mark, fmt::format("{}: expected a time such as 500ms, 2s or 1min, from 1ms to 60min", what),
          DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::optional<std::uint32_t> Reader::mode(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind == Node::Kind::scalar && node.text.size() == 4 && node.text.front() == '0') {
        std::uint32_t bits = 0;
        const char* const end = node.text.data() + node.text.size();
        if (const auto parsed = std::from_chars(node.text.data(), end, bits, 8);
            parsed.ec == std::errc{} && parsed.ptr == end)
            return bits;
    }
    wrong(node.mark,
          fmt::format(R"({}: expected a mode in octal without set-id bits, from "0000" to "0777")", what),
          DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::optional<std::size_t> Reader::word(const Node& node, std::string_view what,
                                        std::span<const std::string_view> words) {
    if (node.kind == Node::Kind::broken) return std::nullopt;
    if (node.kind != Node::Kind::scalar) {
        wrong(node.mark,
              fmt::format("{}: {}, expected one of {}", what, kind_words(node), fmt::join(words, ", ")),
              DiagnosticCode::wrong_type);
        return std::nullopt;
    }
    const auto found = std::ranges::find(words, node.text);
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    wrong(node.mark,
          fmt::format("{}: unknown word \"{}\"{}, expected one of {}", what, node.text,
                      meant(node.text, words), fmt::join(words, ", ")),
          DiagnosticCode::unknown_word);
    return std::nullopt;
}

std::optional<std::string> Reader::name(const Node& node, std::string_view what) {
    auto found = text(node, what);
    if (!found) return std::nullopt;
    if (!found->empty() && found->size() <= longest_name && std::ranges::all_of(*found, name_byte))
        return found;
    wrong(node.mark,
          fmt::format(R"({}: expected 1 to {} letters, digits, ".", "_" and "-")", what, longest_name),
          DiagnosticCode::wrong_type);
    return std::nullopt;
}

std::span<const Node> Reader::list(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return {};
    if (node.kind != Node::Kind::sequence) {
        wrong(node.mark, fmt::format("{}: {}, expected a list: [...]", what, kind_words(node)),
              DiagnosticCode::wrong_type);
        return {};
    }
    if (node.children.empty())
        wrong(node.mark, fmt::format("{}: an empty list, expected at least one entry", what),
              DiagnosticCode::wrong_type);
    find_repeated(node.children, 1, [&](const Node& entry, const Node&) {
        wrong(entry.mark, fmt::format("{}: \"{}\" twice", what, entry.text), DiagnosticCode::duplicate);
    });
    return node.children;
}

std::optional<AccountId> Reader::account(const Node& node, std::string_view what,
                                         Found (*find)(const Accounts&, const std::string&), Cache& cache) {
    const auto written = text(node, what);
    if (!written) return std::nullopt;
    auto known = cache.find(*written);
    if (known == cache.end()) known = cache.emplace(*written, find(accounts_, *written)).first;
    const Found& found = known->second;
    if (found) return *found;
    if (unknown_ == UnknownAccounts::are_errors || found.error().kind == AccountError::Kind::no_id) {
        const bool no_id = found.error().kind == AccountError::Kind::no_id;
        wrong(node.mark, fmt::format("{}: {}", what, found.error().text),
              no_id ? DiagnosticCode::invalid_value : DiagnosticCode::unknown_name);
        return std::nullopt;
    }
    tolerate(node.mark, fmt::format("{}: {}; it stands for nobody until the policy is loaded again", what,
                                    found.error().text));
    return AccountId{.id = no_account, .by_name = true};
}

std::optional<AccountId> Reader::user(const Node& node, std::string_view what) {
    return account(node, what, find_user, users_);
}

std::optional<AccountId> Reader::group(const Node& node, std::string_view what) {
    return account(node, what, find_group, groups_);
}

void Reader::missing_key(const Node& mapping, std::string_view what, std::string_view key) {
    wrong(mapping.mark, fmt::format("{}the key \"{}\" is missing", prefix(what), key),
          DiagnosticCode::missing_key);
}

bool Reader::is_mapping(const Node& node, std::string_view what) {
    if (node.kind == Node::Kind::broken) return false;
    if (node.kind == Node::Kind::mapping && !node.children.empty()) return true;
    const std::string_view got = node.kind == Node::Kind::mapping ? "an empty mapping" : kind_words(node);
    wrong(node.mark, fmt::format("{}{}, expected keys with values", prefix(what), got),
          DiagnosticCode::wrong_type);
    return false;
}

bool Reader::has_key_like(const Node& mapping, std::string_view name) const {
    for (std::size_t index = 0; index < mapping.children.size(); index += 2) {
        const Node& key = mapping.children[index];
        if (key.kind == Node::Kind::scalar && (key.text == name || !meant(key.text, {&name, 1}).empty()))
            return true;
    }
    return false;
}

void Reader::unknown_key(const Node& key, std::span<const std::string_view> known) {
    wrong(key.mark,
          fmt::format("unknown key \"{}\"{}, expected {}{}", key.text, meant(key.text, known),
                      known.size() > 1 ? "one of " : "", fmt::join(known, ", ")),
          DiagnosticCode::unknown_key);
}

}  // namespace fdbroker::policy
