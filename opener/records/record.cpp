// SPDX-License-Identifier: MIT
#include "opener/records/record.hpp"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "opener/base/byte_text.hpp"
#include "opener/records/line_reader.hpp"

namespace fdbroker::records {

namespace json = simdjson::ondemand;
using policy::OperationSet;

static_assert(line_padding >= simdjson::SIMDJSON_PADDING);

namespace {

// In the order in which records have them.
enum class Key : std::uint8_t {
    seq,
    generation,
    policy,
    time,
    event,
    decision,
    session,
    request,
    listener,
    peer,
    call,
    operation,
    path,
    final_path,
    new_path,
    rule,
    at,
    step,
    errno_value,
    reason,
    cause,
    count,
    duration_ns,
    none
};
constexpr std::array<std::string_view, static_cast<std::size_t>(Key::none)> keys{
    "seq",      "generation", "policy", "time",      "event", "decision",   "session",    "request",
    "listener", "peer",       "call",   "operation", "path",  "final_path", "new_path",   "rule",
    "at",       "step",       "errno",  "reason",    "cause", "count",      "duration_ns"};

// The escaped text of a key; the quote behind it is there, since the parser has found the key's end.
std::string_view text_of(json::raw_json_string key) {
    const char* const start = key.raw();
    const char* end = start;
    while (*end != '"') end += *end == '\\' ? 2 : 1;
    return {start, static_cast<std::size_t>(end - start)};
}

// The first 8 bytes of a text, in the order that a word of memory has them; 0 for those that it lacks.
constexpr std::uint64_t word_of(std::string_view text) {
    std::array<char, sizeof(std::uint64_t)> bytes{};
    std::ranges::copy(text.substr(0, bytes.size()), bytes.begin());
    return std::bit_cast<std::uint64_t>(bytes);
}

// The bytes of that word which the text has.
constexpr std::uint64_t word_mask_of(std::string_view text) {
    std::array<char, sizeof(std::uint64_t)> mask{};
    std::ranges::fill_n(mask.begin(), static_cast<std::ptrdiff_t>(std::min(text.size(), mask.size())),
                        '\xff');
    return std::bit_cast<std::uint64_t>(mask);
}

struct KeyWord {
    std::uint64_t bytes;
    std::uint64_t mask;
};
constexpr std::array<KeyWord, keys.size()> key_words = [] {
    std::array<KeyWord, keys.size()> words{};
    std::ranges::transform(keys, words.begin(), [](std::string_view key) {
        return KeyWord{.bytes = word_of(key), .mask = word_mask_of(key)};
    });
    return words;
}();

// Whether that key starts here. Up to 8 bytes are compared at once, which line_padding makes room for.
bool is_key(const char* start, std::size_t index) {
    const std::string_view key = keys[index];
    std::uint64_t found = 0;
    std::memcpy(&found, start, sizeof found);
    if ((found & key_words[index].mask) != key_words[index].bytes || start[key.size()] != '"') return false;
    return key.size() <= sizeof found ||
           std::memcmp(start + sizeof found, key.data() + sizeof found, key.size() - sizeof found) == 0;
}

// Keys mostly come in the order of the list: the one that is expected is tried first.
Key key_of(const char* start, std::size_t& expected) {
    for (std::size_t tried = 0, index = expected; tried < keys.size(); ++tried, ++index) {
        if (index >= keys.size()) index = 0;
        if (!is_key(start, index)) continue;
        expected = index + 1;
        return static_cast<Key>(index);
    }
    return Key::none;
}

constexpr bool is_detail(Key key) {
    switch (key) {
        case Key::seq:
        case Key::generation:
        case Key::policy:
        case Key::time:
        case Key::session:
        case Key::request:
        case Key::reason:
        case Key::cause:
        case Key::duration_ns:
        case Key::none:
            return true;
        default:
            return false;
    }
}

// Where the text of a value that has escapes is put.
using Scratch = std::array<std::string, keys.size()>;

bool is_ascii(std::string_view text) {
    constexpr std::uint64_t high_bits = 0x8080808080808080;
    std::uint64_t seen = 0;
    std::size_t at = 0;
    for (std::uint64_t word = 0; at + sizeof word <= text.size(); at += sizeof word) {
        std::memcpy(&word, text.data() + at, sizeof word);
        seen |= word;
    }
    for (; at < text.size(); ++at) seen |= static_cast<unsigned char>(text[at]);
    return (seen & high_bits) == 0;
}

template <typename Number>
void read_number(json::value& value, Number& number) {
    if constexpr (std::is_signed_v<Number>)
        number = static_cast<Number>(std::int64_t(value.get_int64()));
    else
        number = static_cast<Number>(std::uint64_t(value.get_uint64()));
}

OperationSet read_operations(json::value& value, bool& unknown) {
    OperationSet operations;
    for (auto element : value.get_array()) {
        const std::string_view word = element.get_string();
        if (const auto operation = policy::operation_from_string(word))
            operations.insert(*operation);
        else
            unknown = true;
    }
    return operations;
}

std::string owned_bytes(std::string_view characters) {
    auto bytes = opener::bytes_of(characters);
    return bytes ? std::move(*bytes) : std::string(characters);
}

std::optional<std::string> name_or_null(json::value& value) {
    if (value.is_null()) return std::string();
    return owned_bytes(std::string_view(value.get_string()));
}

RecordedPeer read_peer(json::object peer) {
    RecordedPeer read;
    bool has_more_groups = false;
    for (auto field : peer) {
        const std::string_view key = text_of(field.key());
        json::value value = field.value();
        if (key == "uid") {
            read.uid = static_cast<std::uint32_t>(std::uint64_t(value.get_uint64()));
        } else if (key == "gid") {
            read.gid = static_cast<std::uint32_t>(std::uint64_t(value.get_uint64()));
        } else if (key == "user") {
            read.user = name_or_null(value);
        } else if (key == "group") {
            read.group = name_or_null(value);
        } else if (key == "groups") {
            auto& groups = read.groups.emplace();
            for (auto gid : value.get_array())
                groups.push_back(static_cast<std::uint32_t>(std::uint64_t(gid.get_uint64())));
        } else if (key == "more_groups") {
            has_more_groups = true;
        } else if (key == "roles") {
            for (auto role : value.get_array()) read.roles.emplace_back(std::string_view(role.get_string()));
        }
    }
    if (has_more_groups) read.groups.reset();
    return read;
}

// Connections of the same peer differ in the pid alone.
std::string_view without_pid(std::string_view peer) {
    constexpr std::string_view start = "{\"pid\":";
    if (!peer.starts_with(start)) return peer;
    const std::size_t comma = peer.find(',');
    return comma == std::string_view::npos ? peer : peer.substr(comma);
}

}  // namespace

bool Record::is_decided() const noexcept {
    if (decision == Decision::allowed) return true;
    return decision == Decision::refused && step != "parse" && errno_value != ECANCELED;
}

struct RecordParser::State {
    Detail detail = Detail::all;
    json::parser records{};
    json::parser peers{};
    Record record{};
    Scratch scratch{};
    std::string peer_key{};  // the key of last_peer
    const RecordedPeer* last_peer = nullptr;
    std::uint64_t last_id = 0;
    // Those that were forgotten live as long as a record may speak of them.
    std::unordered_map<std::string, RecordedPeer> known{}, forgotten{};

    bool read(std::string_view line);
    void read_field(Key key, json::value& value);
    std::string_view text(Key key, json::value& value);
    std::string_view bytes(Key key, json::value& value);
    const RecordedPeer* peer_of(std::string_view listener, std::string_view peer);
};

std::string_view RecordParser::State::text(Key, json::value& value) {
    return value.get_string();
}

std::string_view RecordParser::State::bytes(Key key, json::value& value) {
    const std::string_view characters = value.get_string();
    if (is_ascii(characters)) return characters;
    return scratch[static_cast<std::size_t>(key)] = owned_bytes(characters);
}

void RecordParser::State::read_field(Key key, json::value& value) {
    switch (key) {
        case Key::seq:
            return read_number(value, record.sequence);
        case Key::generation:
            return read_number(value, record.generation);
        case Key::policy:
            record.policy = text(key, value);
            return;
        case Key::time:
            record.time = text(key, value);
            return;
        case Key::event:
            record.event = text(key, value);
            return;
        case Key::decision:
            record.decision = text(key, value) == "allowed" ? Decision::allowed : Decision::refused;
            return;
        case Key::session:
            return read_number(value, record.session);
        case Key::call:
            record.call = text(key, value);
            return;
        case Key::operation:
            record.operations = read_operations(value, record.unknown_operation);
            return;
        case Key::path:
            record.path = bytes(key, value);
            return;
        case Key::final_path:
            record.final_path = bytes(key, value);
            return;
        case Key::new_path:
            record.new_path = bytes(key, value);
            return;
        case Key::rule:
            record.rule = text(key, value);
            return;
        case Key::at:
            record.at = bytes(key, value);
            return;
        case Key::step:
            record.step = text(key, value);
            return;
        case Key::errno_value:
            return read_number(value, record.errno_value);
        case Key::reason:
            record.reason = text(key, value);
            return;
        case Key::cause:
            record.cause = text(key, value);
            return;
        case Key::count:
            return read_number(value, record.count);
        case Key::duration_ns:
            return read_number(value, record.duration_ns);
        case Key::listener:
        case Key::peer:
        case Key::request:
        case Key::none:
            return;
    }
}

const RecordedPeer* RecordParser::State::peer_of(std::string_view listener, std::string_view peer) {
    const std::string_view known_by = without_pid(peer);
    if (last_peer != nullptr && listener == last_peer->listener &&
        known_by ==
            std::string_view(peer_key).substr(peer_key.size() - std::min(peer_key.size(), known_by.size())) &&
        peer_key.size() == listener.size() + 1 + known_by.size())
        return last_peer;
    peer_key.assign(listener).append(1, '\0').append(known_by);
    auto found = known.find(peer_key);
    if (found == known.end()) {
        json::document document =
            peers.iterate(peer.data(), peer.size(), peer.size() + simdjson::SIMDJSON_PADDING);
        RecordedPeer read = read_peer(document.get_object());
        read.id = ++last_id;
        read.listener = listener;
        if (known.size() >= max_peers) {
            forgotten = std::move(known);
            known.clear();
        }
        found = known.emplace(peer_key, std::move(read)).first;
    }
    return last_peer = &found->second;
}

// Throws simdjson's error where a value has another type, or the line is no JSON.
bool RecordParser::State::read(std::string_view line) {
    record = {};
    json::document document = records.iterate(line.data(), line.size(), line.size() + line_padding);
    std::string_view listener, peer;
    std::size_t expected = 0;
    for (auto field : document.get_object()) {
        const Key key = key_of(field.key().raw(), expected);
        if (detail == Detail::decisions && is_detail(key)) continue;
        json::value value = field.value();
        if (key == Key::peer) {
            json::object object = value.get_object();
            peer = object.raw_json();
        } else if (key == Key::listener) {
            listener = bytes(key, value);
        } else {
            read_field(key, value);
        }
    }
    // The line must end with the record.
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) return false;
    if (!peer.empty()) record.peer = peer_of(listener, peer);
    record.text = line;
    return !record.event.empty();
}

RecordParser::RecordParser(Detail detail) : state_(std::make_unique<State>()) {
    state_->detail = detail;
}
RecordParser::~RecordParser() = default;

const Record* RecordParser::parse(std::string_view line) {
    try {
        return state_->read(line) ? &state_->record : nullptr;
    } catch (const simdjson::simdjson_error&) {
        return nullptr;
    }
}

}  // namespace fdbroker::records
