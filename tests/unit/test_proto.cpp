// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "proto/message.hpp"
#include "proto/printable.hpp"
#include "tests/unit/test_proto_bytes.hpp"

namespace fdbroker::proto {
namespace {

struct Buffer {
    std::array<std::byte, max_message_size> bytes;
    std::array<Request, max_requests> requests;
    std::array<Reply, max_requests> replies;
};

const std::unique_ptr<Buffer> buffer = std::make_unique<Buffer>();

Bytes hello() {
    return bytes_of(std::span(buffer->bytes).first(write_hello(buffer->bytes)));
}
Bytes hello_reply(const HelloReply& reply = {}) {
    return bytes_of(std::span(buffer->bytes).first(write_hello_reply(buffer->bytes, reply)));
}
Bytes end_message(std::int32_t errno_value, std::string_view reason) {
    return bytes_of(std::span(buffer->bytes).first(write_end(buffer->bytes, errno_value, reason)));
}
Bytes requests(const std::vector<Request>& list) {
    RequestWriter writer(buffer->bytes);
    for (const Request& request : list) REQUIRE(writer.add(request));
    return bytes_of(writer.message());
}
Bytes replies(const std::vector<Reply>& list) {
    ReplyWriter writer(buffer->bytes);
    for (const Reply& reply : list) REQUIRE(writer.add(reply));
    return bytes_of(writer.message());
}

// The error of reading `message` as one of `type`; empty: no error.
std::optional<MessageError> fault_of(MessageType type, std::span<const std::byte> message) {
    const auto fault = [](const auto& result) -> std::optional<MessageError> {
        if (result) return std::nullopt;
        return result.error();
    };
    switch (type) {
        case MessageType::hello:
            return fault(read_hello(message));
        case MessageType::hello_reply:
            return fault(read_hello_reply(message));
        case MessageType::requests:
            return fault(read_requests(message, buffer->requests));
        case MessageType::replies:
            return fault(read_replies(message, buffer->replies));
        case MessageType::end:
            return fault(read_end(message));
    }
    return std::nullopt;
}

struct Sample {
    MessageType type;
    Bytes bytes;
};

// A message of each type, with every field that it can have.
std::vector<Sample> samples() {
    return {
        {MessageType::hello, hello()},
        {MessageType::hello_reply, hello_reply({.calls = 1})},
        {MessageType::requests, requests({{.id = 1, .flags = 0x80000, .mode = 0, .path = "/etc/hostname"},
                                          {.id = 2,
                                           .call = Call::rename,
                                           .flags = 1,
                                           .mode = 0640,
                                           .path = "/srv/a",
                                           .payload = std::string_view("/srv/b\0", 7)}})},
        {MessageType::replies,
         replies(
             {{.id = 2, .has_descriptor = true, .record = 7, .payload = "answer"},
              {.id = 1, .status = 13, .step = Step::decide, .record = 8, .reason = "no rule allows read"}})},
        {MessageType::end, end_message(71, "a field outside its range")},
    };
}

}  // namespace

TEST_CASE("message: every message cut short anywhere is refused") {
    for (const Sample& sample : samples()) {
        CAPTURE(static_cast<int>(sample.type));
        CHECK_FALSE(fault_of(sample.type, sample.bytes));
        for (std::size_t size = 0; size < sample.bytes.size(); ++size) {
            CAPTURE(size);
            // A copy of that very size, so that a sanitizer sees a read beyond it.
            const Bytes cut(sample.bytes.begin(), sample.bytes.begin() + static_cast<std::ptrdiff_t>(size));
            CHECK(fault_of(sample.type, cut) == MessageError::too_short);
        }
    }
}

TEST_CASE("message: a byte after the end of any message is refused") {
    for (Sample& sample : samples()) {
        CAPTURE(static_cast<int>(sample.type));
        sample.bytes.push_back(std::byte{0});
        CHECK(fault_of(sample.type, sample.bytes) == MessageError::too_long);
    }
}

TEST_CASE("message: no message is read as one of another type") {
    for (const Sample& sample : samples())
        for (const Sample& other : samples())
            if (other.type != sample.type)
                CHECK(fault_of(other.type, sample.bytes) == MessageError::bad_type);
}

TEST_CASE("message: every version and type but the known ones is refused") {
    for (const Sample& sample : samples()) {
        for (unsigned value = 0; value < 256; ++value) {
            Bytes changed = sample.bytes;
            changed[0] = static_cast<std::byte>(value);
            if (value != protocol_version) CHECK(fault_of(sample.type, changed) == MessageError::bad_version);
            changed = sample.bytes;
            changed[1] = static_cast<std::byte>(value);
            if (value < 1 || value > 5) {
                CHECK(fault_of(sample.type, changed) == MessageError::bad_type);
                CHECK(read_header(changed).error() == MessageError::bad_type);
            }
        }
    }
}

TEST_CASE("message: every reserved bit of every header is refused") {
    for (const Sample& sample : samples()) {
        CAPTURE(static_cast<int>(sample.type));
        for (unsigned bit = 0; bit < 16; ++bit) {
            Bytes changed = sample.bytes;
            changed[4 + bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
            if (sample.type == MessageType::requests && bit == 0)
                CHECK_FALSE(fault_of(sample.type, changed));
            else
                CHECK(fault_of(sample.type, changed) == MessageError::bad_field);
            changed = sample.bytes;
            changed[6 + bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
            if (sample.type == MessageType::requests)
                CHECK_FALSE(fault_of(sample.type, changed));
            else
                CHECK(fault_of(sample.type, changed) == MessageError::bad_field);
        }
    }
}

TEST_CASE("message: a count that is not the number of entries is refused") {
    for (const Sample& sample : samples()) {
        CAPTURE(static_cast<int>(sample.type));
        const bool has_entries = sample.type == MessageType::requests || sample.type == MessageType::replies;
        for (unsigned count = 0; count < 65536; ++count) {
            Bytes changed = sample.bytes;
            changed[2] = static_cast<std::byte>(count & 0xff);
            changed[3] = static_cast<std::byte>(count >> 8);
            const auto fault = fault_of(sample.type, changed);
            if (count == (has_entries ? 2 : 0))
                CHECK_FALSE(fault);
            else
                CHECK(fault.has_value());
            if (count > max_requests) CHECK(fault == MessageError::bad_count);
        }
    }
}

TEST_CASE("message: a message above the maximum is refused whatever it holds") {
    Bytes message = requests({{.id = 1, .path = "/"}});
    message.resize(max_message_size + 1);
    CHECK(fault_of(MessageType::requests, message) == MessageError::too_long);
    message.resize(max_message_size);
    CHECK(fault_of(MessageType::requests, message) == MessageError::too_long);
}

TEST_CASE("message: reading gives what was written, byte for byte, whatever bit is flipped") {
    // A message has one encoding: whatever is still read after a change says something else than before.
    const Sample sample = samples()[2];
    for (std::size_t bit = 0; bit < sample.bytes.size() * 8; ++bit) {
        Bytes changed = sample.bytes;
        changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        const auto read = read_requests(changed, buffer->requests);
        if (!read) continue;
        const auto header = read_header(changed);
        RequestWriter writer(buffer->bytes, header->cpu, static_cast<Batch>(header->flags));
        for (const Request& request : *read) REQUIRE(writer.add(request));
        CHECK(bytes_of(writer.message()) == changed);
    }
}

TEST_CASE("message: paths of every length to the maximum come through with their NUL") {
    for (std::size_t length = 0; length <= max_path_length; ++length) {
        const std::string path(length, 'p');
        const Bytes message = requests({{.id = 5, .path = path}});
        CHECK(message.size() % 4 == 0);
        const auto read = read_requests(message, buffer->requests);
        REQUIRE(read.has_value());
        REQUIRE(read->size() == 1);
        CHECK((*read)[0].path == path);
        CHECK(std::strlen((*read)[0].path.data()) == length);
    }
    RequestWriter writer(buffer->bytes);
    CHECK_FALSE(writer.add({.id = 5, .path = std::string(max_path_length + 1, 'p')}));
}

TEST_CASE("message: a byte other than zero in any padding is refused") {
    for (std::size_t length = 0; length < 8; ++length) {
        CAPTURE(length);
        const std::string text(length, 'p');
        const Bytes message = requests({{.id = 5, .path = text}});
        for (std::size_t at = 8 + 20 + length; at < message.size(); ++at) {
            Bytes changed = message;
            changed[at] = std::byte{0x80};
            CHECK(fault_of(MessageType::requests, changed) == MessageError::bad_padding);
        }
        const Bytes refusal = replies({{.id = 1, .status = 2, .step = Step::resolve, .reason = text}});
        for (std::size_t at = 8 + 24 + length; at < refusal.size(); ++at) {
            Bytes changed = refusal;
            changed[at] = std::byte{0x80};
            CHECK(fault_of(MessageType::replies, changed) == MessageError::bad_padding);
        }
        const Bytes end = end_message(1, text);
        for (std::size_t at = 16 + length; at < end.size(); ++at) {
            Bytes changed = end;
            changed[at] = std::byte{0x80};
            CHECK(fault_of(MessageType::end, changed) == MessageError::bad_padding);
        }
    }
}

TEST_CASE("message: requests are found at the front of a buffer, whatever follows, and only whole") {
    const Bytes message = requests({{.id = 5, .path = "/a"}, {.id = 7, .path = "/b"}});
    Bytes longer = message;
    longer.resize(message.size() + 100, std::byte{0xff});
    const auto read = read_requests_within(longer, buffer->requests);
    REQUIRE(read.has_value());
    REQUIRE(read->size() == 2);
    CHECK((*read)[1].id == 7);
    CHECK(!read_requests(longer, buffer->requests));
    for (std::size_t size = 0; size < message.size(); ++size)
        CHECK(!read_requests_within(std::span(message).first(size), buffer->requests));
}

TEST_CASE("message: a NUL inside a path is the policy's to refuse, not the codec's") {
    const std::string path("/a\0b", 4);
    const Bytes message = requests({{.id = 5, .path = path}});
    const auto read = read_requests(message, buffer->requests);
    REQUIRE(read.has_value());
    CHECK((*read)[0].path == path);
}

TEST_CASE("message: the ids of one message must increase") {
    std::vector<Request> list;
    for (std::uint32_t id = 0; id < max_requests; ++id) list.push_back({.id = 10 + id * 3, .path = "/p"});
    CHECK_FALSE(fault_of(MessageType::requests, requests(list)));
    for (std::size_t index = 1; index < list.size(); ++index) {
        const std::uint32_t id = list[index].id;
        for (const std::uint32_t wrong : {list[index - 1].id, list[index - 1].id - 1, 0u}) {
            list[index].id = wrong;
            CHECK(fault_of(MessageType::requests, requests(list)) == MessageError::duplicate_id);
        }
        list[index].id = id;
    }
    list = {
        {.id = 0x7fffffff, .path = "/a"}, {.id = 0x80000000, .path = "/b"}, {.id = 0xffffffff, .path = "/c"}};
    CHECK_FALSE(fault_of(MessageType::requests, requests(list)));
}

TEST_CASE("message: a request writer takes 253 requests, or as many as fit the message or the buffer") {
    RequestWriter writer(buffer->bytes);
    for (std::uint32_t id = 0; id < max_requests; ++id) REQUIRE(writer.add({.id = id, .path = "/"}));
    CHECK_FALSE(writer.add({.id = max_requests, .path = "/"}));
    CHECK(writer.count() == max_requests);
    CHECK_FALSE(fault_of(MessageType::requests, writer.message()));

    const std::string long_path(max_path_length, 'p');
    Bytes larger(2 * max_message_size);
    RequestWriter full(larger);
    std::uint32_t id = 0;
    while (full.add({.id = id, .path = long_path})) ++id;
    CHECK(id == 15);
    CHECK_FALSE(fault_of(MessageType::requests, full.message()));

    // Whatever the buffer's size, nothing behind it is touched.
    for (std::size_t size = 0; size < 80; ++size) {
        Bytes small(size + 8, std::byte{0xee});
        RequestWriter bounded(std::span<std::byte>(small).first(size));
        const bool first = bounded.add({.id = 0, .path = "/abc"});
        const bool second = bounded.add({.id = 1, .path = "/abc"});
        CHECK(first == (size >= 8 + 28));
        CHECK(second == (size >= 8 + 56));
        CHECK(bounded.message().size() == (size < 8 ? 0u : 8u + bounded.count() * 28));
        for (std::size_t at = size; at < small.size(); ++at) CHECK(small[at] == std::byte{0xee});
    }
}

TEST_CASE("message: a reply writer always takes 253 replies with the longest reasons") {
    const std::string reason(max_reason_length, 'r');
    ReplyWriter writer(buffer->bytes);
    for (std::uint32_t id = 0; id < max_requests; ++id)
        REQUIRE(writer.add({.id = id, .status = 13, .step = Step::decide, .reason = reason}));
    CHECK_FALSE(writer.add({.id = 0, .status = 13, .step = Step::decide}));
    const auto read = read_replies(writer.message(), buffer->replies);
    REQUIRE(read.has_value());
    CHECK(read->size() == max_requests);
    CHECK(read->back().reason == reason);

    writer.clear();
    CHECK(writer.count() == 0);
    CHECK(writer.add({.id = 9, .has_descriptor = true}));
    CHECK_FALSE(fault_of(MessageType::replies, writer.message()));

    for (std::size_t size = 0; size < 48; ++size) {
        Bytes small(size + 8, std::byte{0xee});
        ReplyWriter bounded(std::span<std::byte>(small).first(size));
        CHECK(bounded.add({.id = 1, .status = 2, .step = Step::resolve, .reason = "why"}) ==
              (size >= 8 + 28));
        for (std::size_t at = size; at < small.size(); ++at) CHECK(small[at] == std::byte{0xee});
    }
}

TEST_CASE("message: hello, hello_reply and end are not written into a buffer that is too small") {
    for (std::size_t size = 0; size < 32; ++size) {
        Bytes small(size + 8, std::byte{0xee});
        CHECK((write_hello(std::span(small).first(size)) != 0) == (size >= 8));
        CHECK((write_hello_reply(std::span(small).first(size), {}) != 0) == (size >= 24));
        CHECK((write_end(std::span(small).first(size), 1, "reasons") != 0) == (size >= 24));
        for (std::size_t at = size; at < small.size(); ++at) CHECK(small[at] == std::byte{0xee});
    }
}

TEST_CASE("message: a long reason is cut between two characters") {
    // "é" is two bytes; behind one byte the cut at 200 would fall into its middle.
    std::string reason = "x";
    while (reason.size() < 300) reason += "é";
    const Bytes message = replies({{.id = 1, .status = 13, .step = Step::decide, .reason = reason}});
    const auto read = read_replies(message, buffer->replies);
    REQUIRE(read.has_value());
    CHECK((*read)[0].reason == std::string_view(reason).substr(0, 199));
    const Bytes end = end_message(71, reason);
    CHECK(read_end(end)->reason.size() == 199);
    const Bytes nonsense = end_message(71, std::string(300, '\x80'));
    CHECK(read_end(nonsense)->reason.empty());
}

TEST_CASE("message: control characters of a reason are written as question marks and refused on reading") {
    for (unsigned value = 0; value < 256; ++value) {
        CAPTURE(value);
        const std::string reason = {'a', static_cast<char>(value), 'b', 'c'};
        const bool control = value < 0x20 || value == 0x7f;
        Bytes message = replies({{.id = 1, .status = 13, .step = Step::decide, .reason = reason}});
        CHECK(read_replies(message, buffer->replies)->front().reason == (control ? "a?bc" : reason));
        message[8 + 24 + 1] = static_cast<std::byte>(value);
        CHECK(read_replies(message, buffer->replies).has_value() == !control);
        Bytes end = end_message(71, reason);
        CHECK(read_end(end)->reason == (control ? "a?bc" : reason));
        end[16 + 1] = static_cast<std::byte>(value);
        CHECK(read_end(end).has_value() == !control);
    }
}

TEST_CASE("printable: control characters are escaped however they are written, and text is not") {
    const std::string text = "a\xc3\xa0 \xc3\x80 \xc2\xa0 \xe2\x82\xac \xf0\x9f\x99\x82";
    CHECK(printable(text) == text);
    CHECK(printable("\x1b[2J\x7f\t") == "\\x1b[2J\\x7f\\x09");
    CHECK(printable("\n") == "\n");
    CHECK(printable("\n", LineFeeds::escaped) == "\\x0a");
    for (unsigned value = 0x80; value < 0xa0; ++value) {
        const auto byte = static_cast<char>(value);
        const std::string shown =
            std::string("\\x") + "89"[(value >> 4) - 8] + "0123456789abcdef"[value & 15];
        CHECK(printable(std::string("a") + byte + "b") == "a" + shown + "b");
        CHECK(printable(std::string("a\xc2") + byte + "b") == "a\\xc2" + shown + "b");
    }
    // No UTF-8: cut short, longer than need be, a surrogate, beyond the last character.
    CHECK(printable("\xc3") == "\\xc3");
    CHECK(printable("\xe2\x82 ") == "\\xe2\\x82 ");
    CHECK(printable("\xc1\x9b") == "\\xc1\\x9b");
    CHECK(printable("\xe0\x82\x9b") == "\\xe0\\x82\\x9b");
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
    CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
    CHECK(printable("\xff") == "\\xff");
}

TEST_CASE("message: steps and errors have words") {
    CHECK(to_string(Step::none) == "none");
    CHECK(to_string(Step::parse) == "parse");
    CHECK(to_string(Step::decide) == "decide");
    CHECK(to_string(Step::resolve) == "resolve");
    CHECK(to_string(Step::inspect) == "inspect");
    CHECK(to_string(Step::deliver) == "deliver");
    CHECK(to_string(Step::record) == "record");
    CHECK(to_string(static_cast<Step>(99)) == "unknown");
    for (unsigned error = 0; error < 8; ++error)
        CHECK(to_string(static_cast<MessageError>(error)) != "unknown");
    CHECK(to_string(static_cast<MessageError>(8)) == "unknown");
}

}  // namespace fdbroker::proto
