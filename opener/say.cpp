#include "opener/say.hpp"

#include <sys/uio.h>
#include <unistd.h>

#include <array>

namespace fdbroker::opener {

namespace {

// In one call, so that lines of the supervisor and of a generation do not mingle. Not by stdio or fmt, whose
// failures are exceptions or stay in a buffer.
void write_line(std::string_view prefix, std::string_view text) noexcept {
    const auto part = [](std::string_view piece) {
        return iovec{.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()};
    };
    const std::array parts{part(prefix), part(text), part("\n")};
    [[maybe_unused]] const ssize_t written =
        ::writev(STDERR_FILENO, parts.data(), static_cast<int>(parts.size()));
}

}  // namespace

void say_plainly(std::string_view text) noexcept {
    write_line("", text);
}

void say(std::string_view text) noexcept {
    write_line("opener: ", text);
}

}  // namespace fdbroker::opener
