#include "policy/operation.hpp"

#include <algorithm>
#include <array>

namespace fdbroker::policy {
namespace {

constexpr std::array<std::string_view, operation_count> words{
    "read",  "write",  "append", "create",  "truncate", "stat",  "list",    "readlink",
    "mkdir", "remove", "rename", "symlink", "setattr",  "xattr", "execute",
};

}  // namespace

std::string_view to_string(Operation operation) noexcept {
    return words[static_cast<std::size_t>(operation)];
}

std::optional<Operation> operation_from_string(std::string_view word) noexcept {
    const auto* const found = std::ranges::find(words, word);
    if (found == words.end()) return std::nullopt;
    return static_cast<Operation>(found - words.begin());
}

}  // namespace fdbroker::policy
