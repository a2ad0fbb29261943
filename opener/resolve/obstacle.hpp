// SPDX-License-Identifier: MIT
// How far a request has come, and why one ends without having been done.
#pragma once

#include <cerrno>
#include <cstdint>
#include <expected>

#include "proto/message.hpp"

namespace fdbroker::opener {

enum class Completion : std::uint8_t {
    done,
    refused,
    needs_helper,  // nothing has been done, because it could block; a helper does it
};

// Why a granted request, or a part of it, was not done. `text` speaks to the peer: a literal, or BoundDirectory::refusal,
// which lives as long as the resolver.
struct Obstacle {
    int errno_value = EIO;
    const char* text = "";
    proto::Step step = proto::Step::resolve;  // ended there
    Completion completion = Completion::refused;

    Obstacle at(proto::Step where) const noexcept { return {errno_value, text, where, completion}; }
};
// In a helper, where it cannot be, it is a refusal like any other.
inline constexpr Obstacle only_in_a_helper{EAGAIN, "", proto::Step::resolve, Completion::needs_helper};

template <typename T>
using Attempt = std::expected<T, Obstacle>;

}  // namespace fdbroker::opener
