// SPDX-License-Identifier: MIT
// Whatever bytes come in: reading them touches nothing else, and what is read is written back to the same bytes.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "proto/message.hpp"
#include "proto/payload.hpp"

namespace {

using namespace fdbroker::proto;

struct Room {
    std::array<std::byte, max_message_size> bytes;
    std::array<Request, max_requests> requests;
    std::array<Reply, max_requests> replies;
};

void require_same(std::span<const std::byte> written, std::span<const std::byte> read) {
    if (written.size() != read.size() || std::memcmp(written.data(), read.data(), read.size()) != 0)
        std::abort();
}

void require(bool holds) {
    if (!holds) std::abort();
}

// Reads an answer's bytes as a client does, for whichever call.
void read_payload(std::string_view payload) {
    static_cast<void>(read_number(payload));
    if (const auto status = read_status(payload))
        require(read_status(std::string_view(status_payload(*status).data(), status_size)) == status);
    DirectoryPageReader page(payload);
    while (const auto entry = page.entry()) require(!entry->name.empty());
}

void round_trip(Room& room, std::span<const std::byte> message) {
    const auto header = read_header(message);
    if (const auto requests = read_requests(message, room.requests)) {
        RequestWriter writer(room.bytes, header->cpu, static_cast<Batch>(header->flags));
        for (const Request& request : *requests) {
            require(request.path.data()[request.path.size()] == '\0');
            require(writer.add(request));
        }
        require_same(writer.message(), message);
    }
    if (const auto replies = read_replies(message, room.replies)) {
        ReplyWriter writer(room.bytes);
        for (const Reply& reply : *replies) {
            require(writer.add(reply));
            read_payload(reply.payload);
        }
        require_same(writer.message(), message);
    }
    const std::span<const std::byte> bytes = room.bytes;
    if (const auto reply = read_hello_reply(message))
        require_same(bytes.first(write_hello_reply(room.bytes, *reply)), message);
    if (read_hello(message)) require_same(bytes.first(write_hello(room.bytes)), message);
    if (const auto end = read_end(message))
        require_same(bytes.first(write_end(room.bytes, end->errno_value, end->reason)), message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto room = std::make_unique<Room>();
    // A copy of that very size, so that a sanitizer sees a read beyond it.
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const std::vector<std::byte> message(bytes, bytes + size);
    round_trip(*room, message);
    return 0;
}
