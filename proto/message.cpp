// SPDX-License-Identifier: MIT
#include "proto/message.hpp"

#include <algorithm>
#include <cstring>

#include "proto/bytes.hpp"
#include "proto/call_forms.hpp"
#include "proto/payload.hpp"

namespace fdbroker::proto {
namespace {

constexpr std::size_t request_size = 20;  // the fixed part of a request entry
constexpr std::size_t reply_size = 24;    // the fixed part of a reply entry
constexpr std::size_t hello_reply_size = header_size + 16;
constexpr std::size_t end_size = header_size + 8;  // without its reason
constexpr std::uint8_t reply_has_descriptor = 1;

static_assert(least_max_message == header_size + request_size + max_path_length + 1);
static_assert(max_plain_reply == reply_size + max_reason_length);
static_assert(header_size + max_requests * max_plain_reply <= max_message_size,
              "a batch's replies fit one message, whatever their reasons");
static_assert(max_reason_length % 4 == 0 && (max_path_length + 1) % 4 == 0);

constexpr std::size_t padded(std::size_t size) {
    return (size + 3) & ~std::size_t{3};
}

// A path is followed by its NUL and then by zeros.
constexpr std::size_t padded_path(std::size_t length) {
    return padded(length + 1);
}

// True when the last `count` bytes (1 to 4) of the word that ends at `end` are zero.
bool ends_in_zeros(const std::byte* end, std::size_t count) noexcept {
    return load<std::uint32_t>(end - 4) >> (8 * (4 - count)) == 0;
}

bool is_control(char character) noexcept {
    const auto value = static_cast<unsigned char>(character);
    return value < 0x20 || value == 0x7f;
}

bool is_type(std::uint8_t type) noexcept {
    return type >= static_cast<std::uint8_t>(MessageType::hello) &&
           type <= static_cast<std::uint8_t>(MessageType::end);
}

bool is_call(std::uint16_t call) noexcept {
    return call < call_count;
}

void write_header(std::byte* to, MessageType type, std::uint16_t cpu = unknown_cpu,
                  Batch batch = Batch::each_for_itself) noexcept {
    store<std::uint8_t>(to, protocol_version);
    store<std::uint8_t>(to + 1, static_cast<std::uint8_t>(type));
    store<std::uint16_t>(to + 2, 0);  // count
    store(to + 4, static_cast<std::uint16_t>(batch));
    store<std::uint16_t>(to + 6, cpu);
}

// The header of a message that must be of `type`; only a client says on which CPU it runs.
std::expected<Header, MessageError> read_header_of(MessageType type,
                                                   std::span<const std::byte> message) noexcept {
    const auto header = read_header(message);
    if (!header) return header;
    if (header->type != type) return std::unexpected(MessageError::bad_type);
    const auto known = static_cast<std::uint16_t>(type == MessageType::requests ? Batch::all_or_nothing
                                                                                : Batch::each_for_itself);
    if ((header->flags & ~known) != 0) return std::unexpected(MessageError::bad_field);
    if (type != MessageType::requests && header->cpu != unknown_cpu)
        return std::unexpected(MessageError::bad_field);
    const bool has_entries = type == MessageType::requests || type == MessageType::replies;
    if (has_entries ? header->count == 0 || header->count > max_requests : header->count != 0)
        return std::unexpected(MessageError::bad_count);
    return header;
}

// Reads `length` bytes and their padding, padded(length) bytes in all.
std::expected<std::string_view, MessageError> read_padded(const std::byte* from,
                                                          std::size_t length) noexcept {
    const std::size_t padding = padded(length) - length;
    if (padding != 0 && !ends_in_zeros(from + padded(length), padding))
        return std::unexpected(MessageError::bad_padding);
    return std::string_view(reinterpret_cast<const char*>(from), length);
}

// Writes `bytes` and their padding; `to` has room for padded(bytes.size()) bytes.
void write_padded(std::byte* to, std::string_view bytes) noexcept {
    if (bytes.empty()) return;
    // The last word first: what the bytes leave of it stays zero.
    store(to + padded(bytes.size()) - 4, std::uint32_t{0});
    std::memcpy(to, bytes.data(), bytes.size());
}

std::string_view cut_reason(std::string_view reason) noexcept {
    if (reason.size() <= max_reason_length) return reason;
    std::size_t size = max_reason_length;
    // A byte 10xxxxxx goes on with the character that an earlier byte began.
    while (size > 0 && (static_cast<unsigned char>(reason[size]) & 0xc0) == 0x80) --size;
    return reason.substr(0, size);
}

// Writes the reason and its padding; `to` has room for padded(reason.size()) bytes.
void write_reason(std::byte* to, std::string_view reason) noexcept {
    for (const char character : reason)
        *to++ = static_cast<std::byte>(is_control(character) ? '?' : character);
    for (std::size_t size = reason.size(); size % 4 != 0; ++size) *to++ = std::byte{0};
}

// Reads the reason of `length` bytes and its padding, padded(length) bytes in all.
std::expected<std::string_view, MessageError> read_reason(const std::byte* from,
                                                          std::size_t length) noexcept {
    const auto reason = read_padded(from, length);
    if (reason && std::ranges::any_of(*reason, is_control)) return std::unexpected(MessageError::bad_field);
    return reason;
}

// Reads the entry at the start of `rest` and returns its size.
std::expected<std::size_t, MessageError> read_request(std::span<const std::byte> rest,
                                                      Request& out) noexcept {
    if (rest.size() < request_size) return std::unexpected(MessageError::too_short);
    const std::byte* entry = rest.data();
    const auto call = load<std::uint16_t>(entry + 4);
    const std::size_t path_length = load<std::uint16_t>(entry + 6);
    const std::size_t payload_length = load<std::uint32_t>(entry + 16);
    if (!is_call(call) || path_length > max_path_length || payload_length > max_message_size)
        return std::unexpected(MessageError::bad_field);
    const std::size_t payload_at = request_size + padded_path(path_length);
    const std::size_t size = payload_at + padded(payload_length);
    if (rest.size() < size) return std::unexpected(MessageError::too_short);
    if (!ends_in_zeros(entry + payload_at, payload_at - request_size - path_length))
        return std::unexpected(MessageError::bad_padding);
    const auto payload = read_padded(entry + payload_at, payload_length);
    if (!payload) return std::unexpected(payload.error());
    if (!fits_call(static_cast<Call>(call), *payload)) return std::unexpected(MessageError::bad_field);
    out.id = load<std::uint32_t>(entry);
    out.call = static_cast<Call>(call);
    out.flags = load<std::uint32_t>(entry + 8);
    out.mode = load<std::uint32_t>(entry + 12);
    out.path = {reinterpret_cast<const char*>(entry + request_size), path_length};
    out.payload = *payload;
    return size;
}

std::expected<std::size_t, MessageError> read_reply(std::span<const std::byte> rest, Reply& out) noexcept {
    if (rest.size() < reply_size) return std::unexpected(MessageError::too_short);
    const std::byte* entry = rest.data();
    const auto status = load<std::int32_t>(entry + 4);
    const auto flags = load<std::uint8_t>(entry + 8);
    const auto step = load<std::uint8_t>(entry + 9);
    const std::size_t reason_length = load<std::uint16_t>(entry + 10);
    const std::size_t payload_length = load<std::uint32_t>(entry + 12);
    const bool refused = status != 0;
    if (status < 0 || status > max_errno || (flags & ~reply_has_descriptor) != 0 || (refused && flags != 0) ||
        step > static_cast<std::uint8_t>(Step::record) || (step != 0) != refused ||
        reason_length > max_reason_length || (reason_length != 0 && !refused) ||
        payload_length > max_message_size || (payload_length != 0 && refused))
        return std::unexpected(MessageError::bad_field);
    const std::size_t payload_at = reply_size + padded(reason_length);
    const std::size_t size = payload_at + padded(payload_length);
    if (rest.size() < size) return std::unexpected(MessageError::too_short);
    const auto reason = read_reason(entry + reply_size, reason_length);
    if (!reason) return std::unexpected(reason.error());
    const auto payload = read_padded(entry + payload_at, payload_length);
    if (!payload) return std::unexpected(payload.error());
    out = {.id = load<std::uint32_t>(entry),
           .status = status,
           .has_descriptor = flags != 0,
           .step = static_cast<Step>(step),
           .record = load<std::uint64_t>(entry + 16),
           .reason = *reason,
           .payload = *payload};
    return size;
}

// Leaves in `rest` what follows the message.
std::expected<std::span<const Request>, MessageError> read_requests_before(
    std::span<const std::byte>& rest, std::span<Request, max_requests> out) noexcept {
    const auto header = read_header_of(MessageType::requests, rest);
    if (!header) return std::unexpected(header.error());
    rest = rest.subspan(header_size);
    for (std::size_t index = 0; index < header->count; ++index) {
        const auto size = read_request(rest, out[index]);
        if (!size) return std::unexpected(size.error());
        if (index != 0 && out[index].id <= out[index - 1].id)
            return std::unexpected(MessageError::duplicate_id);
        rest = rest.subspan(*size);
    }
    return std::span<const Request>(out.first(header->count));
}

}  // namespace

std::string_view to_string(MessageError error) noexcept {
    switch (error) {
        case MessageError::too_short:
            return "the message is too short";
        case MessageError::too_long:
            return "the message is too long";
        case MessageError::bad_version:
            return "another protocol version";
        case MessageError::bad_type:
            return "a message of a type that does not belong here";
        case MessageError::bad_count:
            return "a number of entries outside its range";
        case MessageError::bad_field:
            return "a field outside its range";
        case MessageError::bad_padding:
            return "padding that is not zero";
        case MessageError::duplicate_id:
            return "ids that do not increase";
    }
    return "unknown";
}

std::string_view to_string(Call call) noexcept {
    const auto index = static_cast<std::size_t>(call);
    return index < call_forms.size() ? call_forms[index].name : "unknown";
}

std::string_view to_string(Step step) noexcept {
    switch (step) {
        case Step::none:
            return "none";
        case Step::parse:
            return "parse";
        case Step::decide:
            return "decide";
        case Step::resolve:
            return "resolve";
        case Step::inspect:
            return "inspect";
        case Step::deliver:
            return "deliver";
        case Step::record:
            return "record";
    }
    return "unknown";
}

std::size_t write_hello(std::span<std::byte> buffer) noexcept {
    if (buffer.size() < header_size) return 0;
    write_header(buffer.data(), MessageType::hello);
    return header_size;
}

std::size_t write_hello_reply(std::span<std::byte> buffer, const HelloReply& reply) noexcept {
    if (buffer.size() < hello_reply_size) return 0;
    write_header(buffer.data(), MessageType::hello_reply);
    std::byte* body = buffer.data() + header_size;
    store(body, reply.oldest_version);
    store(body + 1, reply.newest_version);
    store(body + 2, reply.max_requests_per_message);
    store(body + 4, reply.max_message);
    store(body + 8, reply.calls);
    return hello_reply_size;
}

std::size_t write_end(std::span<std::byte> buffer, std::int32_t errno_value,
                      std::string_view reason) noexcept {
    reason = cut_reason(reason);
    const std::size_t size = end_size + padded(reason.size());
    if (buffer.size() < size) return 0;
    write_header(buffer.data(), MessageType::end);
    std::byte* body = buffer.data() + header_size;
    store(body, errno_value);
    store(body + 4, static_cast<std::uint16_t>(reason.size()));
    store(body + 6, std::uint16_t{0});
    write_reason(body + 8, reason);
    return size;
}

RequestWriter::RequestWriter(std::span<std::byte> buffer, std::uint16_t cpu, Batch batch) noexcept
    : buffer_(buffer.first(std::min(buffer.size(), max_message_size))) {
    if (buffer_.size() < header_size) return;
    write_header(buffer_.data(), MessageType::requests, cpu, batch);
    size_ = header_size;
}

bool RequestWriter::add(const Request& request) noexcept {
    const std::size_t path_length = request.path.size();
    if (size_ == 0 || count_ == max_requests || path_length > max_path_length) return false;
    if (request.payload.size() > max_message_size) return false;
    const std::size_t payload_at = request_size + padded_path(path_length);
    const std::size_t size = payload_at + padded(request.payload.size());
    if (buffer_.size() - size_ < size) return false;
    std::byte* entry = buffer_.data() + size_;
    store(entry, request.id);
    store(entry + 4, static_cast<std::uint16_t>(request.call));
    store(entry + 6, static_cast<std::uint16_t>(path_length));
    store(entry + 8, request.flags);
    store(entry + 12, request.mode);
    store(entry + 16, static_cast<std::uint32_t>(request.payload.size()));
    // The last word first: what the path leaves of it stays zero.
    store(entry + payload_at - 4, std::uint32_t{0});
    if (path_length != 0) std::memcpy(entry + request_size, request.path.data(), path_length);
    write_padded(entry + payload_at, request.payload);
    size_ += size;
    store(buffer_.data() + 2, ++count_);
    return true;
}

std::span<const std::byte> RequestWriter::message() const noexcept {
    return buffer_.first(size_);
}

ReplyWriter::ReplyWriter(std::span<std::byte> buffer) noexcept
    : buffer_(buffer.first(std::min(buffer.size(), max_message_size))) {
    clear();
}

void ReplyWriter::clear() noexcept {
    count_ = 0;
    if (buffer_.size() < header_size) return;
    write_header(buffer_.data(), MessageType::replies);
    size_ = header_size;
}

bool ReplyWriter::add(const Reply& reply) noexcept {
    const std::string_view reason = cut_reason(reply.reason);
    if (size_ == 0 || count_ == max_requests || reply.payload.size() > max_message_size) return false;
    const std::size_t payload_at = reply_size + padded(reason.size());
    const std::size_t size = payload_at + padded(reply.payload.size());
    if (room() < size) return false;
    std::byte* entry = buffer_.data() + size_;
    store(entry, reply.id);
    store(entry + 4, reply.status);
    store(entry + 8, reply.has_descriptor ? reply_has_descriptor : std::uint8_t{0});
    store(entry + 9, static_cast<std::uint8_t>(reply.step));
    store(entry + 10, static_cast<std::uint16_t>(reason.size()));
    store(entry + 12, static_cast<std::uint32_t>(reply.payload.size()));
    store(entry + 16, reply.record);
    write_reason(entry + reply_size, reason);
    write_padded(entry + payload_at, reply.payload);
    size_ += size;
    store(buffer_.data() + 2, ++count_);
    return true;
}

std::span<const std::byte> ReplyWriter::message() const noexcept {
    return buffer_.first(size_);
}

std::expected<Header, MessageError> read_header(std::span<const std::byte> message) noexcept {
    if (message.size() < header_size) return std::unexpected(MessageError::too_short);
    if (message.size() > max_message_size) return std::unexpected(MessageError::too_long);
    const std::byte* from = message.data();
    if (load<std::uint8_t>(from) != protocol_version) return std::unexpected(MessageError::bad_version);
    const auto type = load<std::uint8_t>(from + 1);
    if (!is_type(type)) return std::unexpected(MessageError::bad_type);
    return Header{.type = static_cast<MessageType>(type),
                  .count = load<std::uint16_t>(from + 2),
                  .flags = load<std::uint16_t>(from + 4),
                  .cpu = load<std::uint16_t>(from + 6)};
}

std::expected<std::span<const Request>, MessageError> read_requests(
    std::span<const std::byte> message, std::span<Request, max_requests> out) noexcept {
    std::span<const std::byte> rest = message;
    const auto requests = read_requests_before(rest, out);
    if (requests && !rest.empty()) return std::unexpected(MessageError::too_long);
    return requests;
}

std::expected<std::span<const Request>, MessageError> read_requests_within(
    std::span<const std::byte> buffer, std::span<Request, max_requests> out) noexcept {
    return read_requests_before(buffer, out);
}

std::expected<std::span<const Reply>, MessageError> read_replies(
    std::span<const std::byte> message, std::span<Reply, max_requests> out) noexcept {
    const auto header = read_header_of(MessageType::replies, message);
    if (!header) return std::unexpected(header.error());
    std::span<const std::byte> rest = message.subspan(header_size);
    for (std::size_t index = 0; index < header->count; ++index) {
        const auto size = read_reply(rest, out[index]);
        if (!size) return std::unexpected(size.error());
        rest = rest.subspan(*size);
    }
    if (!rest.empty()) return std::unexpected(MessageError::too_long);
    return std::span<const Reply>(out.first(header->count));
}

std::expected<HelloReply, MessageError> read_hello_reply(std::span<const std::byte> message) noexcept {
    const auto header = read_header_of(MessageType::hello_reply, message);
    if (!header) return std::unexpected(header.error());
    if (message.size() < hello_reply_size) return std::unexpected(MessageError::too_short);
    if (message.size() > hello_reply_size) return std::unexpected(MessageError::too_long);
    const std::byte* body = message.data() + header_size;
    const HelloReply reply{.oldest_version = load<std::uint8_t>(body),
                           .newest_version = load<std::uint8_t>(body + 1),
                           .max_requests_per_message = load<std::uint16_t>(body + 2),
                           .max_message = load<std::uint32_t>(body + 4),
                           .calls = load<std::uint64_t>(body + 8)};
    // Whoever answers a message of this version speaks it.
    if (reply.oldest_version == 0 || reply.oldest_version > protocol_version ||
        reply.newest_version < protocol_version || reply.max_requests_per_message == 0 ||
        reply.max_requests_per_message > max_requests || reply.max_message < least_max_message ||
        reply.max_message > max_message_size)
        return std::unexpected(MessageError::bad_field);
    return reply;
}

std::expected<void, MessageError> read_hello(std::span<const std::byte> message) noexcept {
    const auto header = read_header_of(MessageType::hello, message);
    if (!header) return std::unexpected(header.error());
    if (message.size() > header_size) return std::unexpected(MessageError::too_long);
    return {};
}

std::expected<End, MessageError> read_end(std::span<const std::byte> message) noexcept {
    const auto header = read_header_of(MessageType::end, message);
    if (!header) return std::unexpected(header.error());
    if (message.size() < end_size) return std::unexpected(MessageError::too_short);
    const std::byte* body = message.data() + header_size;
    const auto errno_value = load<std::int32_t>(body);
    const std::size_t reason_length = load<std::uint16_t>(body + 4);
    if (errno_value < 1 || errno_value > max_errno || reason_length > max_reason_length ||
        load<std::uint16_t>(body + 6) != 0)
        return std::unexpected(MessageError::bad_field);
    const std::size_t size = end_size + padded(reason_length);
    if (message.size() < size) return std::unexpected(MessageError::too_short);
    if (message.size() > size) return std::unexpected(MessageError::too_long);
    const auto reason = read_reason(body + 8, reason_length);
    if (!reason) return std::unexpected(reason.error());
    return End{.errno_value = errno_value, .reason = *reason};
}

}  // namespace fdbroker::proto
