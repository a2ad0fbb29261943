// SPDX-License-Identifier: MIT
#include "opener/audit/audit_record.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

namespace fdbroker::opener {

namespace {

// Roles of a peer that records name at most; with names of 64 bytes they take 4 KiB.
constexpr std::size_t max_roles = 64;
// The same for its supplementary groups, of which it may have 65,536 (NGROUPS_MAX).
constexpr std::size_t max_groups = 64;

// Written by hand: a record is made for every request, and a general JSON writer takes ten times as long.
class Line {
  public:
    explicit Line(std::string& out) : out_(out) { out_.clear(); }

    void raw(std::string_view text) { out_.append(text); }

    template <typename Number>
    void number(Number value) {
        std::array<char, 24> digits;
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
        out_.append(digits.data(), end);
    }

    // A JSON string of bytes that may be anything. Every byte outside printable ASCII becomes \u00XX, so that a
    // path comes back from a parser with one character for each byte.
    void bytes(std::string_view value) { quoted(value, 0x7f); }
    // A JSON string of valid UTF-8, which stays as it is but for control characters.
    void text(std::string_view value) { quoted(value, 0x100); }

    // RFC 3339 in UTC with microseconds. The calendar part changes once a second and is kept.
    void time(std::chrono::system_clock::time_point value) {
        using namespace std::chrono;
        const auto since = value.time_since_epoch();
        const auto second = floor<seconds>(since);
        static thread_local seconds kept{-1};
        static thread_local std::array<char, 32> calendar;
        static thread_local std::size_t length = 0;
        if (second != kept) {
            const std::time_t clock = second.count();
            std::tm parts{};
            ::gmtime_r(&clock, &parts);
            length = std::strftime(calendar.data(), calendar.size(), "%Y-%m-%dT%H:%M:%S.", &parts);
            kept = second;
        }
        std::array<char, 8> fraction;
        auto left = static_cast<unsigned>(duration_cast<microseconds>(since - second).count());
        for (int i = 5; i >= 0; --i, left /= 10)
            fraction[static_cast<std::size_t>(i)] = static_cast<char>('0' + left % 10);
        fraction[6] = 'Z';
        out_.push_back('"');
        out_.append(calendar.data(), length);
        out_.append(fraction.data(), 7);
        out_.push_back('"');
    }

    void beginning(std::uint64_t sequence, std::uint32_t generation) {
        raw("{\"seq\":");
        number(sequence);
        raw(",\"generation\":");
        number(generation);
        raw(",");
    }

    void head(const RecordHead& head) {
        beginning(head.sequence, head.generation);
        if (!head.policy.empty()) {
            raw("\"policy\":\"");
            raw(head.policy);
            raw("\",");
        }
        raw("\"time\":");
        time(head.time);
    }

    // Writes the rule's name, and the place as "file:line".
    void rule(const policy::Rule& rule) {
        raw(",\"rule\":");
        text(rule.name);
        raw(",\"at\":");
        bytes(rule.location.file);
        // Into the string just closed.
        out_.back() = ':';
        number(rule.location.line);
        raw("\"");
    }

    // Writes an account's name; null: none.
    void name(std::string_view value) { value.empty() ? raw("null") : bytes(value); }

    // The first `most`, and how many more there are.
    template <typename Range, typename Write>
    void list(std::string_view key, std::string_view more_key, const Range& all, std::size_t most,
              const Write& write) {
        const std::size_t named = std::min(all.size(), most);
        raw(",\"");
        raw(key);
        raw("\":[");
        for (std::size_t i = 0; i < named; ++i) {
            if (i != 0) raw(",");
            write(all[i]);
        }
        raw("]");
        if (named == all.size()) return;
        raw(",\"");
        raw(more_key);
        raw("\":");
        number(all.size() - named);
    }

    void end() { raw("}\n"); }

  private:
    // Bytes from `first_foreign` on are escaped, as are control characters, quotes and backslashes.
    // U+0080 to U+009F, whose second byte is the number.
    static bool is_high_control(std::string_view text) {
        return text.size() > 1 && text[0] == '\xc2' && static_cast<unsigned char>(text[1]) < 0xa0;
    }

    void quoted(std::string_view value, unsigned first_foreign) {
        out_.push_back('"');
        std::size_t clean = 0;
        for (std::size_t i = 0; i < value.size(); ++i) {
            const auto byte = static_cast<unsigned char>(value[i]);
            const bool begins = first_foreign > 0xff && is_high_control(value.substr(i));
            const bool ends = first_foreign > 0xff && i > 0 && is_high_control(value.substr(i - 1));
            const bool special = byte == '"' || byte == '\\' || byte < 0x20 || byte == 0x7f;
            if (!begins && !ends && !special && byte < first_foreign) continue;
            out_.append(value.substr(clean, i - clean));
            clean = i + 1;
            if (begins) continue;
            if (byte == '"' || byte == '\\') {
                out_.push_back('\\');
                out_.push_back(value[i]);
            } else {
                constexpr std::string_view hex = "0123456789abcdef";
                out_.append("\\u00");
                out_.push_back(hex[byte >> 4]);
                out_.push_back(hex[byte & 15U]);
            }
        }
        out_.append(value.substr(clean));
        out_.push_back('"');
    }

    std::string& out_;
};

}  // namespace

std::string audit_peer(const policy::PeerIdentity& identity, std::int32_t pid,
                       std::span<const std::string_view> roles) {
    std::string out;
    Line line(out);
    line.raw("\"listener\":");
    line.bytes(identity.listener);
    line.raw(",\"peer\":{\"pid\":");
    line.number(pid);
    line.raw(",\"uid\":");
    line.number(identity.uid);
    line.raw(",\"gid\":");
    line.number(identity.gid);
    line.raw(",\"user\":");
    line.name(identity.user);
    line.raw(",\"group\":");
    line.name(identity.group);
    line.list("groups", "more_groups", identity.groups, max_groups,
              [&](std::uint32_t gid) { line.number(gid); });
    line.list("roles", "more_roles", roles, max_roles, [&](std::string_view role) { line.text(role); });
    line.raw("}");
    return out;
}

void write_line_beginning(std::string& out, std::uint64_t sequence, std::uint32_t generation) {
    Line(out).beginning(sequence, generation);
}

void write_line(std::string& out, const DecisionRecord& record) {
    Line line(out);
    line.head(record.head);
    line.raw(",\"event\":\"request\",\"decision\":");
    line.raw(record.errno_value == 0 ? "\"allowed\"" : "\"refused\"");
    line.raw(",\"session\":");
    line.number(record.session);
    line.raw(",\"request\":");
    line.number(record.request);
    line.raw(",");
    line.raw(record.peer);
    line.raw(",\"call\":\"");
    line.raw(proto::to_string(record.call));
    line.raw("\",\"operation\":[");
    bool first = true;
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const auto operation = static_cast<policy::Operation>(bit);
        if (!record.operations.contains(operation)) continue;
        if (!first) line.raw(",");
        first = false;
        line.text(policy::to_string(operation));
    }
    line.raw("],\"path\":");
    line.bytes(record.path);
    if (!record.final_path.empty()) {
        line.raw(",\"final_path\":");
        line.bytes(record.final_path);
    }
    if (!record.new_path.empty()) {
        line.raw(",\"new_path\":");
        line.bytes(record.new_path);
    }
    if (record.rule != nullptr) line.rule(*record.rule);
    if (record.errno_value != 0) {
        line.raw(",\"step\":");
        line.text(proto::to_string(record.step));
        line.raw(",\"errno\":");
        line.number(record.errno_value);
        line.raw(",\"reason\":");
        line.text(record.reason);
    }
    if (record.count != 1) {
        line.raw(",\"count\":");
        line.number(record.count);
    }
    line.raw(",\"duration_ns\":");
    line.number(record.duration.count());
    line.end();
}

void write_line(std::string& out, const EventRecord& record) {
    Line line(out);
    line.head(record.head);
    line.raw(",\"event\":");
    line.text(record.event);
    if (record.session != 0) {
        line.raw(",\"session\":");
        line.number(record.session);
    }
    if (!record.peer.empty()) {
        line.raw(",");
        line.raw(record.peer);
    }
    if (!record.policy_digest.empty()) {
        line.raw(",\"policy_sha256\":");
        line.text(record.policy_digest);
    }
    if (!record.path.empty()) {
        line.raw(",\"path\":");
        line.bytes(record.path);
    }
    if (record.rule != nullptr) line.rule(*record.rule);
    if (!record.cause.empty()) {
        line.raw(",\"cause\":");
        line.text(record.cause);
    }
    if (record.bytes != 0) {
        line.raw(",\"bytes\":");
        line.number(record.bytes);
    }
    if (record.unused_first != 0) {
        line.raw(",\"unused\":[");
        line.number(record.unused_first);
        line.raw(",");
        line.number(record.unused_last);
        line.raw("]");
    }
    if (record.count != 1) {
        line.raw(",\"count\":");
        line.number(record.count);
    }
    line.end();
}

}  // namespace fdbroker::opener
