// SPDX-License-Identifier: MIT
// What requests and replies of each call carry besides their fixed fields. PROTOCOL.md, "Calls", draws the bytes.
//
// Pure like the codec of message.hpp: texts and spans point into the bytes read. A request that reaches these functions
// in a broker has passed fits_call() and is well-formed. A client reads a broker's bytes with them; each returns nullopt
// when the bytes are not as described.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proto/message.hpp"

struct statx;  // the C library's

namespace fdbroker::proto {

// The longest name of an extended attribute: XATTR_NAME_MAX of linux/limits.h.
inline constexpr std::size_t max_xattr_name = 255;
// The longest name in a directory: NAME_MAX of linux/limits.h.
inline constexpr std::size_t max_entry_name = 255;

// Whether the payload of a request is one of this call.
bool fits_call(Call call, std::string_view payload) noexcept;

// ---- texts: the new name of a rename, the target of a symlink, the name of an attribute -----------------

// The text as it goes over the wire, with its NUL.
inline std::string_view text_payload(const char* text) noexcept {
    return {text, std::strlen(text) + 1};
}
// Without the NUL, which follows it in memory. The payload has passed fits_call().
inline std::string_view read_text(std::string_view payload) noexcept {
    return payload.substr(0, payload.size() - 1);
}

// ---- numbers: the cursor of a list, the number of a put -------------------------------------------------

std::array<char, 8> number_payload(std::uint64_t number) noexcept;
// The first 8 bytes; nullopt: there are fewer.
std::optional<std::uint64_t> read_number(std::string_view payload) noexcept;

// ---- stat -----------------------------------------------------------------------------------------------

struct Timestamp {
    std::int64_t seconds = 0;  // since the epoch
    // 0 to 999,999,999; in a request of setattr also UTIME_NOW and UTIME_OMIT (utimensat(2)).
    std::uint32_t nanoseconds = 0;
    bool operator==(const Timestamp&) const = default;
};

// The status of an object as statx(2) has it, without the mount, which is the broker's own affair.
struct Status {
    std::uint32_t mask = 0;  // STATX_*: which of the fields hold something
    std::uint32_t block_size = 0;
    std::uint64_t attributes = 0;
    std::uint32_t links = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint16_t mode = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::uint64_t blocks = 0;
    std::uint64_t attributes_mask = 0;
    Timestamp access{};
    Timestamp birth{};
    Timestamp change{};
    Timestamp modification{};
    std::uint32_t rdev_major = 0;
    std::uint32_t rdev_minor = 0;
    std::uint32_t dev_major = 0;
    std::uint32_t dev_minor = 0;
    bool operator==(const Status&) const = default;
};

// Attributes without what they say of the mount.
Status status_of(const struct statx& status) noexcept;

inline constexpr std::size_t status_size = 144;
std::array<char, status_size> status_payload(const Status& status) noexcept;
std::optional<Status> read_status(std::string_view payload) noexcept;

// ---- list -----------------------------------------------------------------------------------------------

// Flag of a request: entries come with their status.
inline constexpr std::uint32_t list_with_status = 1;

struct DirectoryEntry {
    std::uint64_t inode = 0;
    std::uint8_t type = 0;    // DT_* of readdir(3)
    std::string_view name{};  // 1 to max_entry_name bytes, no slash, no NUL
    // On pages with status: why there is none, an errno up to max_errno; 0: `status` is it.
    std::int32_t status_error = 0;
    Status status{};
};

enum class PageKind { names, with_status };

// Fills the payload of a reply to `list`: entries, and where the next page begins.
class DirectoryPageWriter {
  public:
    // The page takes `room` bytes at most.
    explicit DirectoryPageWriter(std::size_t room, PageKind kind = PageKind::names);
    // False, and nothing written, when the page is full.
    [[nodiscard]] bool add(const DirectoryEntry& entry);
    // The cursor of the next page; 0: there is none.
    void set_next(std::uint64_t cursor) noexcept;
    const std::string& payload() const noexcept { return bytes_; }

  private:
    std::size_t room_;
    PageKind kind_;
    std::string bytes_;
};

// Reads such a payload, one entry after the other.
class DirectoryPageReader {
  public:
    explicit DirectoryPageReader(std::string_view payload, PageKind kind = PageKind::names) noexcept;
    std::uint64_t next_cursor() const noexcept { return next_; }  // 0: this is the last page
    // nullopt: there is no further one, or the bytes are not as described (then ok() is false).
    std::optional<DirectoryEntry> entry() noexcept;
    bool ok() const noexcept { return ok_; }

  private:
    bool take_status(DirectoryEntry& entry) noexcept;

    PageKind kind_;
    std::string_view rest_{};
    std::uint64_t next_ = 0;
    bool ok_ = true;
};

// ---- setattr ----------------------------------------------------------------------------------------------

// Flags of a request: what is set, and of which object.
inline constexpr std::uint32_t setattr_mode = 1;   // Request::mode
inline constexpr std::uint32_t setattr_times = 2;  // the payload
inline constexpr std::uint32_t setattr_link = 4;  // a link in the last place itself; it has times and no mode

struct Times {
    Timestamp access{};
    Timestamp modification{};
    bool operator==(const Times&) const = default;
};
inline constexpr std::size_t times_size = 32;
std::array<char, times_size> times_payload(const Times& times) noexcept;
std::optional<Times> read_times(std::string_view payload) noexcept;

// ---- xattr_write ------------------------------------------------------------------------------------------

struct AttributeValue {
    std::string_view name{};  // followed by a NUL in memory
    std::string_view value{};
};
std::string attribute_payload(std::string_view name, std::string_view value);
std::optional<AttributeValue> read_attribute(std::string_view payload) noexcept;

}  // namespace fdbroker::proto
