// SPDX-License-Identifier: MIT
#include "opener/link/start_report.hpp"

#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/memory_file.hpp"

namespace fdbroker::opener {

proto::Result<StartReport> StartReport::create() {
    auto file = make_memory_file("start-report");
    if (!file) return std::unexpected(file.error());
    return StartReport(std::move(*file));
}

void StartReport::log_stderr(std::string_view text) const {
    opener::log_stderr(text);
    keep(text);
}

void StartReport::log_error(std::string_view text) const {
    opener::log_error(text);
    keep(text);
}

void StartReport::log_stderr_plainly(std::string_view text) const {
    opener::log_stderr_plainly(text);
    keep(text);
}

void StartReport::keep(std::string_view text) const {
    if (!file_) return;
    // The place is shared by both processes.
    const off_t used = ::lseek(file_.number(), 0, SEEK_CUR);
    if (used < 0) return;
    const std::size_t room = max_size - std::min(max_size, static_cast<std::size_t>(used));
    const std::string line = std::string(text) + '\n';
    static_cast<void>(
        write_all(file_.borrow(), std::as_bytes(std::span(line).first(std::min(room, line.size())))));
}

proto::UniqueFd StartReport::take() noexcept {
    if (!file_ || !seal(file_.borrow())) return {};
    return std::move(file_);
}

}  // namespace fdbroker::opener
