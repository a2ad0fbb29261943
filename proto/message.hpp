// SPDX-License-Identifier: MIT
// The messages between a client and the broker, and their codec. PROTOCOL.md draws every byte.
//
// The codec is pure: it reads and writes memory that its caller owns, allocates nothing and calls nothing.
// Every byte of a received message is checked. A value out of range, a set reserved bit, non-zero padding or a wrong length
// is a MessageError, on which the receiver ends the connection.
//
// No message depends on an earlier one of the same connection. So a new generation of the broker can take over a connection
// at any moment, knowing nothing but the socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace fdbroker::proto {

// The version of the wire format, first byte of every message. A message of another version gets an `end`
// message back that names the version spoken here.
inline constexpr std::uint8_t protocol_version = 1;

// A whole message, header included, in bytes. Above it the sender has erred. 64 KiB is far below the least
// default of net.core.wmem_default (212,992), so an empty socket buffer always takes a message.
inline constexpr std::size_t max_message_size = 65536;
inline constexpr std::size_t header_size = 8;  // in front of every message
// Requests in one message and so descriptors in one reply: SCM_MAX_FD of the kernel (include/net/scm.h).
inline constexpr std::size_t max_requests = 253;
// A path, without its terminating NUL: PATH_MAX of limits.h less that NUL.
inline constexpr std::size_t max_path_length = 4095;
// The reason in words in one reply entry, in bytes; 253 of them still fit one message.
inline constexpr std::size_t max_reason_length = 200;

enum class MessageType : std::uint8_t {
    hello = 1,        // client: what do you speak?
    hello_reply = 2,  // broker: versions, operations, limits
    requests = 3,     // client: 1 to 253 requests
    replies = 4,      // broker: 1 to 253 replies, their descriptors attached in the same order
    end = 5,          // broker: this connection is over, and why; the last message on it
};

// The kinds of requests. The numbers are the wire's and bit positions of HelloReply::calls. PROTOCOL.md, "Calls", tells
// what flags, mode and payload of each are; proto/payload.hpp reads and writes the payloads.
enum class Call : std::uint16_t {
    open = 0,
    stat = 1,
    list = 2,
    readlink = 3,
    mkdir = 4,
    remove = 5,
    rename = 6,
    symlink = 7,
    setattr = 8,
    xattr_read = 9,
    xattr_list = 10,
    xattr_write = 11,
    xattr_remove = 12,
    put = 13,      // an unnamed temporary to fill
    commit = 14,   // gives it its name
    discard = 15,  // lets go of it
    watch = 16,    // a pipe that tells of changes
};
inline constexpr unsigned call_count = 17;
std::string_view to_string(Call call) noexcept;

// The flags of a message of requests.
enum class Batch : std::uint16_t {
    each_for_itself = 0,
    all_or_nothing = 1,  // nothing is delivered unless every request of the message succeeds
};

enum class MessageError : std::uint8_t {
    too_short,     // less than a header, or than what the header promises
    too_long,      // more than max_message_size, or bytes left over
    bad_version,   // not protocol_version
    bad_type,      // a type that this end does not take
    bad_count,     // no entry, or more than max_requests; not 0 in a message without entries
    bad_field,     // a field outside its range, a reserved bit set
    bad_padding,   // padding that is not zero, or a path without its NUL
    duplicate_id,  // the ids of one message do not strictly increase (that way a duplicate shows at once)
};
std::string_view to_string(MessageError error) noexcept;

// The CPU a client ran on when it sent, as sched_getcpu(3) tells: a hint for placing the broker's thread,
// never trusted for anything else.
inline constexpr std::uint16_t unknown_cpu = 0xffff;

// A request as it lies in the receive buffer: `path` points into it and is followed there by a NUL, so
// path.data() is a C string. The codec checks the framing only; what the path says is policy::RequestPath's.
struct Request {
    // Chosen by the client, unique among its unanswered requests and increasing within a message; echoed in
    // the reply.
    std::uint32_t id = 0;
    Call call = Call::open;
    std::uint32_t flags = 0;  // open(2) flags as the client passed them, for open
    std::uint32_t mode = 0;   // open(2) mode
    std::string_view path{};
    // Further arguments of the call, as bytes; where they are one text, that text is followed by a NUL which is part of it.
    std::string_view payload{};
};

// Which step of a request's way ended it (DESIGN: receive, parse, identify, decide, resolve, inspect,
// deliver, record). A refusal by `decide` is the broker's own; from `resolve` on the errno is the kernel's
// or a rule's condition's. So a client tells "no rule allows it" from "the file's mode forbids it".
enum class Step : std::uint8_t {
    none = 0,  // the request was done
    parse = 1,
    decide = 2,
    resolve = 3,
    inspect = 4,
    deliver = 5,
    record = 6,
};
std::string_view to_string(Step step) noexcept;

// The largest errno there can be: MAX_ERRNO of the kernel (include/linux/err.h).
inline constexpr std::int32_t max_errno = 4095;

// A reply. status 0: done, and step is none and the reason empty. Else a positive errno, a step, and neither
// descriptor nor payload.
struct Reply {
    std::uint32_t id = 0;
    std::int32_t status = 0;
    bool has_descriptor = false;
    Step step = Step::none;
    std::uint64_t record = 0;    // sequence number of the audit record; 0: none. For `openerctl why`.
    std::string_view reason{};   // UTF-8 without control characters, at most max_reason_length bytes
    std::string_view payload{};  // the call's results besides a descriptor, as bytes
};

// The longest payload of a reply, alone in its message: max_message_size less the fixed parts.
inline constexpr std::size_t max_payload = max_message_size - 8 - 24;
// A reply entry without payload takes this much of a message at most, a reason included.
inline constexpr std::size_t max_plain_reply = 24 + max_reason_length;

// Every broker takes this: a message with one request of the longest path.
inline constexpr std::uint32_t least_max_message = 8 + 20 + max_path_length + 1;

// A bit of HelloReply::calls that stands for no call: the broker never waits awake (limits: busy_poll), and a client had
// better not either.
inline constexpr std::uint64_t no_busy_poll = std::uint64_t{1} << 63;

struct HelloReply {
    std::uint8_t oldest_version = protocol_version;
    std::uint8_t newest_version = protocol_version;
    std::uint16_t max_requests_per_message = max_requests;  // 1 to max_requests
    std::uint32_t max_message = max_message_size;           // least_max_message to max_message_size
    std::uint64_t calls = 0;                                // bit n: Call n is served
};

// ---- writing -------------------------------------------------------------------------------------------

// All writers fill a buffer of the caller's and never write past it; max_message_size bytes always suffice.
// In a reason, control characters become '?', and what is above max_reason_length is cut between two UTF-8
// characters.

// These return the size of the message, 0 when the buffer is too small for it.
std::size_t write_hello(std::span<std::byte> buffer) noexcept;
std::size_t write_hello_reply(std::span<std::byte> buffer, const HelloReply& reply) noexcept;
// errno_value: 1 to max_errno.
std::size_t write_end(std::span<std::byte> buffer, std::int32_t errno_value,
                      std::string_view reason) noexcept;

class RequestWriter {
  public:
    explicit RequestWriter(std::span<std::byte> buffer, std::uint16_t cpu = unknown_cpu,
                           Batch batch = Batch::each_for_itself) noexcept;
    // False, and nothing written, when the message is full (max_requests, max_message_size or the buffer).
    // The caller sees to it that the path is at most max_path_length bytes (above it the answer is always
    // false) and that the ids increase.
    [[nodiscard]] bool add(const Request& request) noexcept;
    std::size_t count() const noexcept { return count_; }
    // The whole message so far.
    std::span<const std::byte> message() const noexcept;

  private:
    std::span<std::byte> buffer_;
    std::size_t size_ = 0;
    std::uint16_t count_ = 0;
};

class ReplyWriter {
  public:
    explicit ReplyWriter(std::span<std::byte> buffer) noexcept;
    // False, and nothing written, when the message is full. The reply must be one that Reply describes.
    [[nodiscard]] bool add(const Reply& reply) noexcept;
    std::size_t count() const noexcept { return count_; }
    // Bytes that are left of the message.
    std::size_t room() const noexcept { return buffer_.size() - size_; }
    std::span<const std::byte> message() const noexcept;
    void clear() noexcept;  // starts the next message in the same buffer

  private:
    std::span<std::byte> buffer_;
    std::size_t size_ = 0;
    std::uint16_t count_ = 0;
};

// ---- reading -------------------------------------------------------------------------------------------

struct Header {
    MessageType type = MessageType::hello;
    std::uint16_t count = 0;
    std::uint16_t flags = 0;
    std::uint16_t cpu = unknown_cpu;
};
// The header, its version and that its type is one of MessageType; the rest of the message is not looked at.
std::expected<Header, MessageError> read_header(std::span<const std::byte> message) noexcept;

// Reads a whole `requests` message into `out`, which has room for max_requests. All or nothing: on an error
// no element of `out` means anything. The result is the filled part of `out`.
std::expected<std::span<const Request>, MessageError> read_requests(
    std::span<const std::byte> message, std::span<Request, max_requests> out) noexcept;
// The same of a message that begins `buffer` and whose length is not known: what follows it is not looked at.
std::expected<std::span<const Request>, MessageError> read_requests_within(
    std::span<const std::byte> buffer, std::span<Request, max_requests> out) noexcept;
std::expected<std::span<const Reply>, MessageError> read_replies(std::span<const std::byte> message,
                                                                 std::span<Reply, max_requests> out) noexcept;
std::expected<HelloReply, MessageError> read_hello_reply(std::span<const std::byte> message) noexcept;
// The hello carries nothing but its header; this checks that.
std::expected<void, MessageError> read_hello(std::span<const std::byte> message) noexcept;

struct End {
    std::int32_t errno_value = 0;
    std::string_view reason{};
};
std::expected<End, MessageError> read_end(std::span<const std::byte> message) noexcept;

}  // namespace fdbroker::proto
