// SPDX-License-Identifier: MIT
// A path as a peer asks for it: absolute, canonical, and not yet looked at on disk.
#pragma once

#include <expected>
#include <string_view>

namespace fdbroker::policy {

enum class PathError : unsigned char {
    empty,
    relative,        // does not begin with a slash
    too_long,        // more than 4,095 bytes, or a component of more than 255 (NAME_MAX)
    nul,             // holds a NUL byte
    dot,             // a component . or ..
    double_slash,    // an empty component
    trailing_slash,  // ends with a slash and is not / itself
};
std::string_view to_string(PathError error) noexcept;  // in words, for the peer: "the path is relative"

// Only parse() makes one, and only one can be decided on. It borrows the text: valid while that lives.
class RequestPath {
  public:
    // `text` must be followed by a NUL byte in memory (text.data() is a C string).
    static std::expected<RequestPath, PathError> parse(std::string_view text) noexcept;

    std::string_view text() const noexcept { return text_; }
    const char* c_str() const noexcept { return text_.data(); }

  private:
    explicit RequestPath(std::string_view text) noexcept : text_(text) {}
    std::string_view text_;
};

}  // namespace fdbroker::policy
