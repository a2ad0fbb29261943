// SPDX-License-Identifier: MIT
// The bytes of the link's messages, for both directions:
//
//     0        4        8
//     | index  | zero   | the struct, as in memory; nothing for an empty one
//
// `index` is the position in the direction's variant. Both ends are the same program, so that no other form is needed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>

namespace fdbroker::opener {

inline constexpr std::size_t link_header_size = 8;

template <typename Message>
constexpr std::size_t link_body_size() noexcept {
    if constexpr (std::is_empty_v<Message>)
        return 0;
    else {
        static_assert(std::is_trivially_copyable_v<Message>);
        static_assert(std::has_unique_object_representations_v<Message>, "padding would travel");
        return sizeof(Message);
    }
}

template <typename Direction>
struct LinkSizes;
template <typename... Messages>
struct LinkSizes<std::variant<Messages...>> {
    static constexpr std::size_t max = link_header_size + std::max({link_body_size<Messages>()...});
};

// A message in the form in which it travels.
template <typename Direction>
struct EncodedMessage {
    alignas(std::uint64_t) std::array<std::byte, LinkSizes<Direction>::max> buffer{};
    std::size_t size = 0;
    std::span<const std::byte> bytes() const noexcept { return std::span(buffer).first(size); }
};

template <typename Direction>
EncodedMessage<Direction> encode(const Direction& message) noexcept {
    EncodedMessage<Direction> encoded;
    const auto index = static_cast<std::uint32_t>(message.index());
    std::memcpy(encoded.buffer.data(), &index, sizeof index);
    std::visit(
        [&]<typename Message>(const Message& each) {
            constexpr std::size_t size = link_body_size<Message>();
            if constexpr (size != 0) std::memcpy(encoded.buffer.data() + link_header_size, &each, size);
            encoded.size = link_header_size + size;
        },
        message);
    return encoded;
}

// nullopt: the bytes are no message of this direction.
template <typename Direction>
std::optional<Direction> decode(std::span<const std::byte> bytes) noexcept {
    std::uint32_t index = 0;
    if (bytes.size() < link_header_size) return std::nullopt;
    std::memcpy(&index, bytes.data(), sizeof index);
    const auto body = bytes.subspan(link_header_size);
    std::optional<Direction> decoded;
    const auto take = [&]<std::size_t at>() {
        using Message = std::variant_alternative_t<at, Direction>;
        if (index != at || body.size() != link_body_size<Message>()) return;
        Message message{};
        if constexpr (link_body_size<Message>() != 0) std::memcpy(&message, body.data(), sizeof message);
        decoded.emplace(std::in_place_index<at>, message);
    };
    [&]<std::size_t... at>(std::index_sequence<at...>) {
        (take.template operator()<at>(), ...);
    }(std::make_index_sequence<std::variant_size_v<Direction>>());
    return decoded;
}

}  // namespace fdbroker::opener
