// SPDX-License-Identifier: MIT
#include "opener/audit/audit_chain.hpp"

#include <algorithm>

namespace fdbroker::opener {

namespace {

constexpr std::string_view line_end = "}\n";
constexpr std::size_t digits_of_hash = 64;

int value_of(char digit) noexcept {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

void append_hex(std::string& out, const RecordHash& hash) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (const std::uint8_t byte : hash) {
        out.push_back(digits[byte >> 4]);
        out.push_back(digits[byte & 15U]);
    }
}

}  // namespace

std::string to_hex(const RecordHash& hash) {
    std::string text;
    append_hex(text, hash);
    return text;
}

std::optional<RecordHash> hash_from_hex(std::string_view digits) noexcept {
    RecordHash hash;
    if (digits.size() != digits_of_hash) return std::nullopt;
    for (std::size_t i = 0; i < hash.size(); ++i) {
        const int high = value_of(digits[2 * i]);
        const int low = value_of(digits[2 * i + 1]);
        if (high < 0 || low < 0) return std::nullopt;
        hash[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return hash;
}

// By nettle, which uses the processor's instructions for it where there are some: a sixth of the time that libmd takes.
RecordHash RunningHash::hash() const noexcept {
    RecordHash hash;
    sha256_ctx copy = context_;
    ::nettle_sha256_digest(&copy, hash.size(), hash.data());
    return hash;
}

RecordHash hash_of(std::string_view bytes) noexcept {
    RunningHash hash;
    hash.add(bytes);
    return hash.hash();
}

std::optional<RecordHash> previous_of(std::string_view line) noexcept {
    // ,"previous_sha256":"…"}
    if (line.size() < chain_length || !line.ends_with("\"}")) return std::nullopt;
    std::string_view end = line.substr(line.size() - chain_length);
    if (end.front() != ',' || end.substr(1, 1) != "\"" || end.substr(2, chain_key.size()) != chain_key)
        return std::nullopt;
    end.remove_prefix(2 + chain_key.size());
    return end.starts_with("\":\"") ? hash_from_hex(end.substr(3, digits_of_hash)) : std::nullopt;
}

RecordHash head_of(std::string_view end) noexcept {
    if (end.empty()) return no_record;
    const auto begin_of_line = [&](std::size_t feed) {
        const std::size_t before = feed == 0 ? std::string_view::npos : end.rfind('\n', feed - 1);
        return before == std::string_view::npos ? 0 : before + 1;
    };
    const std::size_t last = begin_of_line(end.size() - 1);
    for (std::size_t feed = end.size() - 1, begin = last;; feed = begin - 1, begin = begin_of_line(feed)) {
        if (previous_of(end.substr(begin, feed - begin))) return hash_of(end.substr(begin));
        if (begin == 0) return hash_of(end.substr(last));
    }
}

void AuditChain::append(std::string& out, std::string_view line) {
    const std::size_t begin = out.size();
    out.append(line.substr(0, line.size() - line_end.size()));
    out.append(",\"").append(chain_key).append("\":\"");
    append_hex(out, head_);
    out.append("\"").append(line_end);
    head_ = hash_of(std::string_view(out).substr(begin));
}

}  // namespace fdbroker::opener
