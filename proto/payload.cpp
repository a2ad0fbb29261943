// SPDX-License-Identifier: MIT
#include "proto/payload.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "proto/bytes.hpp"
#include "proto/call_forms.hpp"

namespace fdbroker::proto {
namespace {

constexpr std::size_t entry_size = 10;        // bytes of a directory entry, without the name
constexpr std::size_t status_error_size = 4;  // after an entry of a page with status
constexpr std::size_t cursor_size = 8;

constexpr std::size_t entry_size_of(std::size_t name_length) {
    return (entry_size + name_length + 1 + 3) & ~std::size_t{3};
}

const std::byte* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const std::byte*>(text.data());
}
std::byte* bytes_of(char* text) noexcept {
    return reinterpret_cast<std::byte*>(text);
}

bool is_text(std::string_view payload, std::size_t longest) noexcept {
    return !payload.empty() && payload.size() <= longest + 1 && payload.back() == '\0';
}

bool is_attribute_name(std::string_view name) noexcept {
    return !name.empty() && name.size() <= max_xattr_name;
}

Timestamp time_of(const statx_timestamp& time) noexcept {
    return {.seconds = time.tv_sec, .nanoseconds = time.tv_nsec};
}

void store_time(std::byte* to, const Timestamp& time) noexcept {
    store(to, time.seconds);
    store(to + 8, time.nanoseconds);
    store(to + 12, std::uint32_t{0});
}

Timestamp load_time(const std::byte* from) noexcept {
    return {.seconds = load<std::int64_t>(from), .nanoseconds = load<std::uint32_t>(from + 8)};
}

}  // namespace

bool fits_call(Call call, std::string_view payload) noexcept {
    const auto index = static_cast<std::size_t>(call);
    if (index >= call_forms.size()) return false;
    switch (call_forms[index].payload) {
        case PayloadForm::none:
            return payload.empty();
        case PayloadForm::number:
            return payload.size() == 8;
        case PayloadForm::path:
            return is_text(payload, max_path_length);
        case PayloadForm::times:
            return payload.empty() || read_times(payload);
        case PayloadForm::attribute_name:
            return is_text(payload, max_xattr_name) && is_attribute_name(read_text(payload)) &&
                   read_text(payload).find('\0') == std::string_view::npos;
        case PayloadForm::attribute:
            return read_attribute(payload).has_value();
    }
    return false;
}

std::array<char, 8> number_payload(std::uint64_t number) noexcept {
    std::array<char, 8> payload;
    store(bytes_of(payload.data()), number);
    return payload;
}

std::optional<std::uint64_t> read_number(std::string_view payload) noexcept {
    if (payload.size() < 8) return std::nullopt;
    return load<std::uint64_t>(bytes_of(payload));
}

Status status_of(const struct statx& status) noexcept {
    constexpr std::uint64_t told_attributes = ~std::uint64_t{STATX_ATTR_MOUNT_ROOT};
    return {.mask = status.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
            .block_size = status.stx_blksize,
            .attributes = status.stx_attributes & told_attributes,
            .links = status.stx_nlink,
            .uid = status.stx_uid,
            .gid = status.stx_gid,
            .mode = status.stx_mode,
            .inode = status.stx_ino,
            .size = status.stx_size,
            .blocks = status.stx_blocks,
            .attributes_mask = status.stx_attributes_mask & told_attributes,
            .access = time_of(status.stx_atime),
            .birth = time_of(status.stx_btime),
            .change = time_of(status.stx_ctime),
            .modification = time_of(status.stx_mtime),
            .rdev_major = status.stx_rdev_major,
            .rdev_minor = status.stx_rdev_minor,
            .dev_major = status.stx_dev_major,
            .dev_minor = status.stx_dev_minor};
}

std::array<char, status_size> status_payload(const Status& status) noexcept {
    std::array<char, status_size> payload{};
    std::byte* to = bytes_of(payload.data());
    store(to, status.mask);
    store(to + 4, status.block_size);
    store(to + 8, status.attributes);
    store(to + 16, status.links);
    store(to + 20, status.uid);
    store(to + 24, status.gid);
    store(to + 28, status.mode);
    store(to + 32, status.inode);
    store(to + 40, status.size);
    store(to + 48, status.blocks);
    store(to + 56, status.attributes_mask);
    store_time(to + 64, status.access);
    store_time(to + 80, status.birth);
    store_time(to + 96, status.change);
    store_time(to + 112, status.modification);
    store(to + 128, status.rdev_major);
    store(to + 132, status.rdev_minor);
    store(to + 136, status.dev_major);
    store(to + 140, status.dev_minor);
    return payload;
}

std::optional<Status> read_status(std::string_view payload) noexcept {
    if (payload.size() != status_size) return std::nullopt;
    const std::byte* from = bytes_of(payload);
    return Status{.mask = load<std::uint32_t>(from),
                  .block_size = load<std::uint32_t>(from + 4),
                  .attributes = load<std::uint64_t>(from + 8),
                  .links = load<std::uint32_t>(from + 16),
                  .uid = load<std::uint32_t>(from + 20),
                  .gid = load<std::uint32_t>(from + 24),
                  .mode = load<std::uint16_t>(from + 28),
                  .inode = load<std::uint64_t>(from + 32),
                  .size = load<std::uint64_t>(from + 40),
                  .blocks = load<std::uint64_t>(from + 48),
                  .attributes_mask = load<std::uint64_t>(from + 56),
                  .access = load_time(from + 64),
                  .birth = load_time(from + 80),
                  .change = load_time(from + 96),
                  .modification = load_time(from + 112),
                  .rdev_major = load<std::uint32_t>(from + 128),
                  .rdev_minor = load<std::uint32_t>(from + 132),
                  .dev_major = load<std::uint32_t>(from + 136),
                  .dev_minor = load<std::uint32_t>(from + 140)};
}

DirectoryPageWriter::DirectoryPageWriter(std::size_t room, PageKind kind)
    : room_(room), kind_(kind), bytes_(cursor_size, '\0') {}

bool DirectoryPageWriter::add(const DirectoryEntry& entry) {
    const std::size_t name_size = entry_size_of(entry.name.size());
    const bool has_status = kind_ == PageKind::with_status && entry.status_error == 0;
    const std::size_t size =
        name_size + (kind_ == PageKind::with_status ? status_error_size : 0) + (has_status ? status_size : 0);
    const std::size_t at = bytes_.size();
    if (entry.name.empty() || entry.name.size() > max_entry_name || at + size > room_) return false;
    bytes_.resize(at + size, '\0');
    std::byte* to = bytes_of(bytes_.data() + at);
    store(to, entry.inode);
    store(to + 8, entry.type);
    store(to + 9, static_cast<std::uint8_t>(entry.name.size()));
    std::ranges::copy(entry.name, bytes_.data() + at + entry_size);
    if (kind_ == PageKind::with_status) store(to + name_size, static_cast<std::uint32_t>(entry.status_error));
    if (has_status)
        std::ranges::copy(status_payload(entry.status), bytes_.data() + at + name_size + status_error_size);
    return true;
}

void DirectoryPageWriter::set_next(std::uint64_t cursor) noexcept {
    store(bytes_of(bytes_.data()), cursor);
}

DirectoryPageReader::DirectoryPageReader(std::string_view payload, PageKind kind) noexcept : kind_(kind) {
    const auto next = read_number(payload);
    ok_ = next.has_value();
    if (!ok_) return;
    next_ = *next;
    rest_ = payload.substr(cursor_size);
}

std::optional<DirectoryEntry> DirectoryPageReader::entry() noexcept {
    if (!ok_ || rest_.empty()) return std::nullopt;
    ok_ = false;
    if (rest_.size() < entry_size) return std::nullopt;
    const std::byte* from = bytes_of(rest_);
    const std::size_t length = load<std::uint8_t>(from + 9);
    const std::size_t size = entry_size_of(length);
    if (length == 0 || rest_.size() < size) return std::nullopt;
    const std::string_view name = rest_.substr(entry_size, length);
    const std::string_view padding = rest_.substr(entry_size + length, size - entry_size - length);
    const bool broken = name.find('/') != std::string_view::npos ||
                        name.find('\0') != std::string_view::npos ||
                        padding.find_first_not_of('\0') != std::string_view::npos;
    if (broken) return std::nullopt;
    rest_.remove_prefix(size);
    DirectoryEntry entry{
        .inode = load<std::uint64_t>(from), .type = load<std::uint8_t>(from + 8), .name = name};
    if (kind_ == PageKind::with_status && !take_status(entry)) return std::nullopt;
    ok_ = true;
    return entry;
}

bool DirectoryPageReader::take_status(DirectoryEntry& entry) noexcept {
    if (rest_.size() < status_error_size) return false;
    const auto error = load<std::uint32_t>(bytes_of(rest_));
    rest_.remove_prefix(status_error_size);
    if (error > static_cast<std::uint32_t>(max_errno)) return false;
    entry.status_error = static_cast<std::int32_t>(error);
    if (error != 0) return true;
    const auto status = read_status(rest_.substr(0, status_size));
    if (!status) return false;
    entry.status = *status;
    rest_.remove_prefix(status_size);
    return true;
}

std::array<char, times_size> times_payload(const Times& times) noexcept {
    std::array<char, times_size> payload;
    store_time(bytes_of(payload.data()), times.access);
    store_time(bytes_of(payload.data() + 16), times.modification);
    return payload;
}

std::optional<Times> read_times(std::string_view payload) noexcept {
    if (payload.size() != times_size) return std::nullopt;
    const std::byte* from = bytes_of(payload);
    if (load<std::uint32_t>(from + 12) != 0 || load<std::uint32_t>(from + 28) != 0) return std::nullopt;
    return Times{.access = load_time(from), .modification = load_time(from + 16)};
}

std::string attribute_payload(std::string_view name, std::string_view value) {
    std::string payload(name);
    payload += '\0';
    payload += value;
    return payload;
}

std::optional<AttributeValue> read_attribute(std::string_view payload) noexcept {
    const std::size_t end = payload.find('\0');
    if (end == std::string_view::npos || !is_attribute_name(payload.substr(0, end))) return std::nullopt;
    return AttributeValue{.name = payload.substr(0, end), .value = payload.substr(end + 1)};
}

}  // namespace fdbroker::proto
