// SPDX-License-Identifier: MIT
// Numbers and texts one behind the other, for a process of this machine: a number is 8 bytes in the machine's order, a
// text its length and its bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace fdbroker::opener {

class PackedWriter {
  public:
    void number(std::uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }
    void text(std::string_view value) {
        number(value.size());
        bytes_.append(value);
    }
    const std::string& bytes() const noexcept { return bytes_; }

  private:
    std::string bytes_{};
};

// Reads in the order of the writing. After something that is not there everything reads as 0 or empty.
class PackedReader {
  public:
    explicit PackedReader(std::string_view bytes) : rest_(bytes) {}

    std::uint64_t number() {
        const std::string_view bytes = take(sizeof(std::uint64_t));
        std::uint64_t value = 0;
        if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    std::string text() { return std::string(take(number())); }
    // So many things of a byte or more may follow; else the number is wrong.
    std::uint64_t count() {
        const std::uint64_t value = number();
        if (value <= rest_.size()) return value;
        failed_ = true;
        return 0;
    }
    bool read_all() const noexcept { return !failed_ && rest_.empty(); }

  private:
    std::string_view take(std::uint64_t size) {
        if (failed_ || size > rest_.size()) {
            failed_ = true;
            return {};
        }
        const std::string_view taken = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return taken;
    }

    std::string_view rest_;
    bool failed_ = false;
};

}  // namespace fdbroker::opener
