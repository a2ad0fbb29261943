// SPDX-License-Identifier: MIT
// The names that a peer's uid and gid have at the time of its connection, as processes pass them on: of one size, without
// a pointer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace fdbroker::opener {

// A name that is longer than there is room for counts as none: no file of a peer's can be called so either (NAME_MAX).
class Name {
  public:
    static constexpr std::size_t max_length = 255;

    std::string_view text() const noexcept { return {bytes_.data(), size_}; }
    void set(std::string_view text) noexcept {
        size_ = static_cast<std::uint8_t>(text.size() <= max_length ? text.size() : 0);
        std::copy_n(text.data(), size_, bytes_.begin());
    }

  private:
    std::uint8_t size_ = 0;  // 0: no name
    std::array<char, max_length> bytes_{};
};

struct PeerNames {
    Name user{};
    Name group{};  // the primary group's
};

}  // namespace fdbroker::opener
