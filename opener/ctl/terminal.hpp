// SPDX-License-Identifier: MIT
// What openerctl writes, and how it looks on a terminal.
#pragma once

#include <string>
#include <string_view>

#include "proto/printable.hpp"

namespace fdbroker::ctl {

// "openerctl: what: why" on standard error.
void complain(std::string_view what_and_why);

// How much may be done for the eye on a stream (its descriptor): colour on a terminal that is not dumb, unless NO_COLOR
// is set and not empty (no-color.org).
bool is_terminal(int stream) noexcept;
bool takes_colour(int stream) noexcept;

enum class Colour { red, green, bold };
std::string painted(std::string_view text, Colour colour, bool with_colour);

using proto::printable;

// Prints to standard output, made printable. Failed writes show at flush_output().
void print(std::string_view text);
// As print(), but as it is: text with colour, JSON.
void print_raw(std::string_view text);
// False: something could not be written; errno says why.
bool flush_output() noexcept;

}  // namespace fdbroker::ctl
