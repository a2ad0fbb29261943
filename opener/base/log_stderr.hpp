// SPDX-License-Identifier: MIT
// What the opener has to say to whoever runs it, on standard error.
#pragma once

#include <chrono>
#include <string_view>

namespace fdbroker::opener {

// Writes the text, a line or several without the last newline, as a terminal may have it (proto/printable.hpp). Writes
// nothing where standard error is closed, full or a pipe without a reader: that is no reason to serve nobody.
//
// Where standard error is the journal (journal.hpp) each line has a priority before it: an error, but a warning from
// log_stderr(), and neither from log_note().
void log_stderr_plainly(std::string_view text) noexcept;
// The same with "opener: " in front.
void log_stderr(std::string_view text) noexcept;
void log_note(std::string_view text) noexcept;
void log_error(std::string_view text) noexcept;
// The same, about an event of fdbroker-audit(5); in the journal with its MESSAGE_ID. Only where the journal's socket can be
// reached, which a confined broker cannot.
void log_event(std::string_view event, std::string_view text) noexcept;

// A line of another process of the opener, which has its prefix and, where standard error is the journal, its priority.
void copy_to_stderr(std::string_view line) noexcept;

// How long a line may wait for room in this process and what it forks; at first not at all.
void wait_for_room_on_stderr(std::chrono::milliseconds patience) noexcept;

}  // namespace fdbroker::opener
