// SPDX-License-Identifier: MIT
// What the command lines of opener and openerctl have in common: how help looks, and what is said of a misspelt word.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace fdbroker::opener {

// --version prints "NAME VERSION". Help shows of an option its placeholder (type_name) alone, never a C++ type or a range.
// Before any option or subcommand is added.
void prepare_command_line(CLI::App& app);

// The first word of the command line that is no command or option of `app`, as "WORD: there is no such command (did you
// mean "status"?)"; empty: each word is one, or an argument.
std::string misspelt_word(const CLI::App& app, int argc, const char* const* argv);

}  // namespace fdbroker::opener
