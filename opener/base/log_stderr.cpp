// SPDX-License-Identifier: MIT
#include "opener/base/log_stderr.hpp"

#include <unistd.h>

#include <string>

#include "opener/base/build_config.hpp"
#include "opener/base/nonblocking_write.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

namespace {

// In one call, so that lines of the supervisor and of a generation do not mingle. Not by stdio or fmt, whose
// failures are exceptions or stay in a buffer.
void write_line(std::string_view prefix, std::string_view text) {
    std::string line(prefix);
    line.append(proto::printable(text)).push_back('\n');
    const proto::BorrowedFd standard_error(STDERR_FILENO);
    const auto own = open_without_waiting(standard_error);
    static_cast<void>(write_without_waiting(own ? own->borrow() : standard_error, line));
}

}  // namespace

void log_stderr_plainly(std::string_view text) noexcept {
    write_line("", text);
}

void log_stderr(std::string_view text) noexcept {
    write_line(FDBROKER_OPENER ": ", text);
}

}  // namespace fdbroker::opener
