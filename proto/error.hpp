// SPDX-License-Identifier: MIT
// Errors that are values: what failed, with which errno, and of which sort.
//
// Three sorts of trouble are never mixed (CONTRIBUTING.md, "Errors"). A refusal or a failure of the operating system is a
// Result. A peer that breaks the protocol ends its session. A bug of ours aborts.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace fdbroker::proto {

enum class ErrorKind {
    system,        // a call into the kernel or a library failed; errno_value says how
    protocol,      // the other end broke the protocol; its connection is of no more use
    disconnected,  // the other end is gone
};

// `operation` names the call or the step that failed and must be a string literal (it is not owned).
// `detail` is free text for a person, often empty; an empty one allocates nothing.
struct Error {
    ErrorKind kind = ErrorKind::system;
    int errno_value = 0;
    const char* operation = "";
    std::string detail{};

    // "operation: detail: text of errno", without what is empty.
    std::string message() const {
        std::string text = operation;
        if (!detail.empty()) text += (text.empty() ? "" : ": ") + detail;
        if (errno_value != 0) text += (text.empty() ? "" : ": ") + std::string(std::strerror(errno_value));
        return text;
    }
};

template <typename T>
using Result = std::expected<T, Error>;

// The error of a call that has just failed and left errno behind.
[[nodiscard]] inline std::unexpected<Error> system_error(const char* operation, std::string detail = {},
                                                         int errno_value = errno) {
    return std::unexpected(Error{ErrorKind::system, errno_value, operation, std::move(detail)});
}

[[nodiscard]] inline std::unexpected<Error> protocol_error(const char* operation, std::string detail = {}) {
    return std::unexpected(Error{ErrorKind::protocol, EPROTO, operation, std::move(detail)});
}

// A call that does not wait had nothing to do.
[[nodiscard]] inline bool would_block(const Error& error) noexcept {
    return error.kind == ErrorKind::system && error.errno_value == EAGAIN;
}

}  // namespace fdbroker::proto
