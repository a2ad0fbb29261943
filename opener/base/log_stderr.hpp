// SPDX-License-Identifier: MIT
// What the opener has to say to whoever runs it, on standard error.
#pragma once

#include <string_view>

namespace fdbroker::opener {

// Writes the text, a line or several without the last newline, as a terminal may have it (proto/printable.hpp). Where standard error is closed, full or a pipe that
// nobody reads any more, nothing is said: that is no reason to serve nobody.
void log_stderr_plainly(std::string_view text) noexcept;
// The same with "opener: " in front.
void log_stderr(std::string_view text) noexcept;

}  // namespace fdbroker::opener
