// SPDX-License-Identifier: MIT
// The message that ends a connection and says why (PROTOCOL.md, "end").
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Never waits: a peer that does not read goes without. A reason that does not fit into the message is cut off.
inline void send_end(proto::BorrowedFd socket, int errno_value, std::string_view reason) {
    std::array<std::byte, 512> message;
    const std::size_t size = proto::write_end(message, errno_value, reason);
    static_cast<void>(proto::send(socket, std::span(message).first(size), {}, proto::Wait::never));
}

}  // namespace fdbroker::opener
