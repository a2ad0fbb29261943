// SPDX-License-Identifier: MIT
#include "policy/matching/operation.hpp"

#include <algorithm>
#include <array>

namespace fdbroker::policy {
namespace {

constexpr std::array<std::string_view, operation_count> operation_names{
    "read",  "write",  "append", "create",  "truncate", "stat",  "list",    "readlink",
    "mkdir", "remove", "rename", "symlink", "setattr",  "xattr", "execute",
};

constexpr OperationSet modify{Operation::write, Operation::create, Operation::truncate};
constexpr OperationSet manage = modify | OperationSet{Operation::mkdir, Operation::remove, Operation::rename};

}  // namespace

std::string_view to_string(Operation operation) noexcept {
    return operation_names[static_cast<std::size_t>(operation)];
}

std::optional<Operation> operation_from_string(std::string_view word) noexcept {
    const auto* const found = std::ranges::find(operation_names, word);
    if (found == operation_names.end()) return std::nullopt;
    return static_cast<Operation>(found - operation_names.begin());
}

OperationSet operations_from_word(std::string_view word) noexcept {
    if (word == "modify") return modify;
    if (word == "manage") return manage;
    const auto operation = operation_from_string(word);
    return operation ? OperationSet{*operation} : OperationSet{};
}

std::span<const std::string_view> operation_words() noexcept {
    static const auto with_groups = [] {
        std::array<std::string_view, operation_count + 2> all;
        for (unsigned index = 0; index < operation_count; ++index)
            all[index] = to_string(static_cast<Operation>(index));
        all[operation_count] = "modify";
        all[operation_count + 1] = "manage";
        return all;
    }();
    return with_groups;
}

}  // namespace fdbroker::policy
