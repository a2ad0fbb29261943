// SPDX-License-Identifier: MIT
#include "policy/matching/request_path.hpp"

#include <climits>
#include <cstring>

namespace fdbroker::policy {
namespace {

constexpr std::size_t max_path = PATH_MAX - 1;  // PATH_MAX counts the NUL byte
constexpr std::size_t max_component = NAME_MAX;

}  // namespace

std::string_view to_string(PathError error) noexcept {
    switch (error) {
        case PathError::empty:
            return "the path is empty";
        case PathError::relative:
            return "the path is relative";
        case PathError::too_long:
            return "the path or one of its names is too long";
        case PathError::nul:
            return "the path holds a NUL byte";
        case PathError::dot:
            return "the path has a . or .. in it";
        case PathError::double_slash:
            return "the path has two slashes in a row";
        case PathError::trailing_slash:
            return "the path ends with a slash";
    }
    return "the path is malformed";
}

std::expected<RequestPath, PathError> RequestPath::parse(std::string_view text) noexcept {
    if (text.empty()) return std::unexpected(PathError::empty);
    if (text.size() > max_path) return std::unexpected(PathError::too_long);
    if (std::memchr(text.data(), '\0', text.size()) != nullptr) return std::unexpected(PathError::nul);
    if (text.front() != '/') return std::unexpected(PathError::relative);
    if (text.size() == 1) return RequestPath(text);

    for (std::size_t begin = 1; begin <= text.size();) {
        const std::size_t slash = std::min(text.find('/', begin), text.size());
        const std::string_view component = text.substr(begin, slash - begin);
        if (component.empty()) {
            const bool last = slash == text.size();
            return std::unexpected(last ? PathError::trailing_slash : PathError::double_slash);
        }
        if (component == "." || component == "..") return std::unexpected(PathError::dot);
        if (component.size() > max_component) return std::unexpected(PathError::too_long);
        begin = slash + 1;
    }
    return RequestPath(text);
}

}  // namespace fdbroker::policy
