// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <array>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "proto/message.hpp"
#include "tests/unit/test_proto_bytes.hpp"

namespace fdbroker::proto {
namespace {

using Json = nlohmann::json;

Json vectors() {
    std::ifstream file(FDBROKER_TEST_DATA "/vectors/messages.json");
    return Json::parse(file);
}

Bytes from_hex(const std::string& hex) {
    Bytes bytes;
    for (std::size_t at = 0; at < hex.size(); at += 2)
        bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(at, 2), nullptr, 16)));
    return bytes;
}

std::string to_hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (const char byte : bytes) {
        hex += digits[static_cast<unsigned char>(byte) / 16];
        hex += digits[static_cast<unsigned char>(byte) % 16];
    }
    return hex;
}

struct Room {
    std::array<std::byte, max_message_size> bytes;
    std::array<Request, max_requests> requests;
    std::array<Reply, max_requests> replies;
};

Bytes written(Room& room, std::size_t size) {
    return bytes_of(std::span(room.bytes).first(size));
}

void check_requests(Room& room, const Json& vector, const Bytes& message) {
    const auto read = read_requests(message, room.requests);
    REQUIRE(read.has_value());
    const auto cpu = vector["cpu"].get<std::uint16_t>();
    CHECK(read_header(message)->cpu == cpu);
    const Batch batch = vector.contains("all_or_nothing") ? Batch::all_or_nothing : Batch::each_for_itself;
    CHECK(read_header(message)->flags == static_cast<std::uint16_t>(batch));
    Json found = Json::array();
    RequestWriter writer(room.bytes, cpu, batch);
    for (const Request& request : *read) {
        found.push_back({{"id", request.id},
                         {"call", static_cast<unsigned>(request.call)},
                         {"flags", request.flags},
                         {"mode", request.mode},
                         {"path", request.path}});
        if (!request.payload.empty()) found.back()["payload"] = to_hex(request.payload);
        REQUIRE(writer.add(request));
    }
    CHECK(found == vector["requests"]);
    CHECK(bytes_of(writer.message()) == message);
}

void check_replies(Room& room, const Json& vector, const Bytes& message) {
    const auto read = read_replies(message, room.replies);
    REQUIRE(read.has_value());
    Json found = Json::array();
    ReplyWriter writer(room.bytes);
    for (const Reply& reply : *read) {
        found.push_back({{"id", reply.id},
                         {"status", reply.status},
                         {"descriptor", reply.has_descriptor},
                         {"step", static_cast<unsigned>(reply.step)},
                         {"record", reply.record},
                         {"reason", reply.reason}});
        if (!reply.payload.empty()) found.back()["payload"] = to_hex(reply.payload);
        REQUIRE(writer.add(reply));
    }
    CHECK(found == vector["replies"]);
    CHECK(bytes_of(writer.message()) == message);
}

void check_hello_reply(Room& room, const Json& vector, const Bytes& message) {
    const auto read = read_hello_reply(message);
    REQUIRE(read.has_value());
    CHECK(read->oldest_version == vector["oldest_version"]);
    CHECK(read->newest_version == vector["newest_version"]);
    CHECK(read->max_requests_per_message == vector["max_requests"]);
    CHECK(read->max_message == vector["max_message"]);
    CHECK(read->calls == vector["calls"]);
    CHECK(written(room, write_hello_reply(room.bytes, *read)) == message);
}

void check_end(Room& room, const Json& vector, const Bytes& message) {
    const auto read = read_end(message);
    REQUIRE(read.has_value());
    CHECK(read->errno_value == vector["errno"]);
    CHECK(read->reason == vector["reason"].get<std::string>());
    CHECK(written(room, write_end(room.bytes, read->errno_value, read->reason)) == message);
}

const std::map<std::string, MessageError> error_names = {
    {"too_short", MessageError::too_short},     {"too_long", MessageError::too_long},
    {"bad_version", MessageError::bad_version}, {"bad_type", MessageError::bad_type},
    {"bad_count", MessageError::bad_count},     {"bad_field", MessageError::bad_field},
    {"bad_padding", MessageError::bad_padding}, {"duplicate_id", MessageError::duplicate_id},
};

std::optional<MessageError> fault_of(Room& room, const std::string& type, const Bytes& message) {
    const auto fault = [](const auto& result) -> std::optional<MessageError> {
        if (result) return std::nullopt;
        return result.error();
    };
    if (type == "hello") return fault(read_hello(message));
    if (type == "hello_reply") return fault(read_hello_reply(message));
    if (type == "requests") return fault(read_requests(message, room.requests));
    if (type == "replies") return fault(read_replies(message, room.replies));
    if (type == "end") return fault(read_end(message));
    FAIL("a vector of unknown type ", type);
    return std::nullopt;
}

}  // namespace

TEST_CASE("vectors: every valid message is read as told and written back to the same bytes") {
    const auto room = std::make_unique<Room>();
    const Json all = vectors();
    REQUIRE(all["valid"].size() > 10);
    for (const Json& vector : all["valid"]) {
        CAPTURE(vector["name"].get<std::string>());
        const Bytes message = from_hex(vector["hex"]);
        const std::string type = vector["type"];
        CHECK_FALSE(fault_of(*room, type, message));
        if (type == "hello") CHECK(written(*room, write_hello(room->bytes)) == message);
        if (type == "hello_reply") check_hello_reply(*room, vector, message);
        if (type == "requests") check_requests(*room, vector, message);
        if (type == "replies") check_replies(*room, vector, message);
        if (type == "end") check_end(*room, vector, message);
    }
}

TEST_CASE("vectors: every invalid message is refused for the reason told") {
    const auto room = std::make_unique<Room>();
    const Json all = vectors();
    REQUIRE(all["invalid"].size() > 50);
    for (const Json& vector : all["invalid"]) {
        CAPTURE(vector["name"].get<std::string>());
        const auto fault = fault_of(*room, vector["type"], from_hex(vector["hex"]));
        CHECK(fault == error_names.at(vector["error"].get<std::string>()));
    }
}

}  // namespace fdbroker::proto
