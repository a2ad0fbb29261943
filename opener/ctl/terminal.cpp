// SPDX-License-Identifier: MIT
#include "opener/ctl/terminal.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "opener/base/build_config.hpp"

namespace fdbroker::ctl {

void complain(std::string_view what_and_why) {
    fmt::print(stderr, FDBROKER_OPENERCTL ": {}\n", printable(what_and_why));
}

bool is_terminal(int stream) noexcept {
    return ::isatty(stream) == 1;
}

bool takes_colour(int stream) noexcept {
    const char* const no_colour = std::getenv("NO_COLOR");
    const char* const kind = std::getenv("TERM");
    const bool unwanted = no_colour != nullptr && *no_colour != '\0';
    return is_terminal(stream) && !unwanted && (kind == nullptr || std::string_view(kind) != "dumb");
}

std::string painted(std::string_view text, Colour colour, bool with_colour) {
    if (!with_colour) return std::string(text);
    const auto code = [colour] {
        switch (colour) {
            case Colour::red:
                return 31;
            case Colour::green:
                return 32;
            case Colour::bold:
                break;
        }
        return 1;
    };
    return fmt::format("\x1b[{}m{}\x1b[0m", code(), text);
}

void print(std::string_view text) {
    print_raw(printable(text));
}

void print_raw(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
}

bool flush_output() noexcept {
    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

}  // namespace fdbroker::ctl
