// SPDX-License-Identifier: MIT
// The operations that rules allow and deny, and sets of them.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

namespace fdbroker::policy {

// fdbroker-policy(5), "Operations". The numbers are internal (bit positions of an OperationSet).
enum class Operation : std::uint8_t {
    read,
    write,
    append,
    create,
    truncate,
    stat,
    list,
    readlink,
    mkdir,
    remove,
    rename,
    symlink,
    setattr,
    xattr,
    execute,
};
inline constexpr unsigned operation_count = 15;

class OperationSet {
  public:
    constexpr OperationSet() noexcept = default;
    constexpr OperationSet(std::initializer_list<Operation> operations) noexcept {
        for (const Operation operation : operations) insert(operation);
    }
    static constexpr OperationSet all() noexcept { return OperationSet((1U << operation_count) - 1); }
    // The set as a number (bit per Operation), for tables that hold many.
    constexpr std::uint16_t bits() const noexcept { return static_cast<std::uint16_t>(bits_); }
    static constexpr OperationSet from_bits(std::uint16_t bits) noexcept {
        return all() & OperationSet(bits);
    }

    constexpr void insert(Operation operation) noexcept { bits_ |= 1U << static_cast<unsigned>(operation); }
    constexpr bool contains(Operation operation) const noexcept {
        return (bits_ >> static_cast<unsigned>(operation) & 1U) != 0;
    }
    constexpr bool contains_all(OperationSet other) const noexcept { return (other.bits_ & ~bits_) == 0; }
    constexpr bool intersects(OperationSet other) const noexcept { return (bits_ & other.bits_) != 0; }
    constexpr bool empty() const noexcept { return bits_ == 0; }
    constexpr int size() const noexcept { return std::popcount(bits_); }

    constexpr OperationSet operator|(OperationSet other) const noexcept {
        return OperationSet(bits_ | other.bits_);
    }
    constexpr OperationSet operator&(OperationSet other) const noexcept {
        return OperationSet(bits_ & other.bits_);
    }
    constexpr OperationSet operator-(OperationSet other) const noexcept {
        return OperationSet(bits_ & ~other.bits_);
    }
    constexpr bool operator==(const OperationSet&) const noexcept = default;

  private:
    explicit constexpr OperationSet(std::uint32_t bits) noexcept : bits_(bits) {}
    std::uint32_t bits_ = 0;
};

// Those that change a file, a directory or what one holds.
inline constexpr OperationSet changing_operations{
    Operation::write,  Operation::append, Operation::create,  Operation::truncate, Operation::mkdir,
    Operation::remove, Operation::rename, Operation::symlink, Operation::setattr,  Operation::xattr};
// Those that make a new name.
inline constexpr OperationSet creating_operations{Operation::create, Operation::mkdir, Operation::symlink};

// Those that let a file's content or attributes be changed: a rule with one of them has `max_links: 1` unless it says
// otherwise.
inline constexpr OperationSet content_changing_operations{
    Operation::write, Operation::append, Operation::truncate, Operation::create, Operation::setattr};
// Those that are about a name, not about what the file holds: `types`, `max_links` and `max_size` do not bind them.
inline constexpr OperationSet name_operations{Operation::stat,   Operation::list,   Operation::readlink,
                                              Operation::mkdir,  Operation::remove, Operation::rename,
                                              Operation::symlink};

std::string_view to_string(Operation operation) noexcept;  // "read", …
std::optional<Operation> operation_from_string(
    std::string_view word) noexcept;  // single operations, no groups
// The operations that a word stands for: one of them, `modify` or `manage`. Empty: no such word.
OperationSet operations_from_word(std::string_view word) noexcept;
// All those words, for messages.
std::span<const std::string_view> operation_words() noexcept;

}  // namespace fdbroker::policy
