// SPDX-License-Identifier: MIT
#include "opener/supervisor/child_output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "opener/base/log_stderr.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

Result<ChildOutput::Pair> ChildOutput::make(std::string label) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return proto::system_error("pipe2");
    return Pair{ChildOutput(UniqueFd(ends[0]), std::move(label)), UniqueFd(ends[1])};
}

Result<ChildOutput::Pair> ChildOutput::adopt(UniqueFd reading, std::string label) {
    UniqueFd writing(
        ::open(fmt::format("/proc/self/fd/{}", reading.number()).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    if (!writing) return proto::system_error("open", "/proc/self/fd");
    return Pair{ChildOutput(std::move(reading), std::move(label)), std::move(writing)};
}

bool ChildOutput::copy(std::size_t max_bytes) {
    std::array<char, 4096> block;
    for (std::size_t copied = 0; pipe_ && copied < max_bytes;) {
        const ssize_t size = ::read(pipe_.number(), block.data(), block.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) break;  // EAGAIN: nothing more by now
        if (size == 0) return false;
        copied += static_cast<std::size_t>(size);
        take({block.data(), static_cast<std::size_t>(size)});
    }
    tell_dropped();
    return bool(pipe_);
}

void ChildOutput::finish() {
    if (!pipe_) return;
    // No more than a pipe holds: somebody may still be writing.
    copy(std::size_t{1} << 20);
    if (!line_.empty()) write_line(std::exchange(line_, {}));
    tell_dropped();
    pipe_.reset();
}

void ChildOutput::take(std::string_view text) {
    while (!text.empty()) {
        const std::size_t room = max_line - line_.size();
        const std::size_t size = std::min({text.find('\n'), text.size(), room});
        line_ += text.substr(0, size);
        const bool is_at_end = size < text.size() && text[size] == '\n';
        text.remove_prefix(is_at_end ? size + 1 : size);
        if (is_at_end || line_.size() == max_line) write_line(std::exchange(line_, {}));
    }
}

void ChildOutput::write_line(std::string_view line) {
    const auto now = TokenBucket::Clock::now();
    if (bounded_ && budget_.usable_at() > now) {
        ++dropped_;
        return;
    }
    if (bounded_) budget_.use(line.size() + 1, now);
    tell_dropped();
    if (label_.empty())
        copy_to_stderr(line);
    else
        log_note(fmt::format("{}: {}", label_, line));
}

// As soon as there is room for it, so that who writes without end cannot fill the log with this either.
void ChildOutput::tell_dropped() {
    const auto now = TokenBucket::Clock::now();
    if (dropped_ == 0 || budget_.usable_at() > now) return;
    const std::string line = fmt::format(
        "{} lines of {} were dropped: more than {} KiB a second is too much", std::exchange(dropped_, 0),
        label_.empty() ? "a broker's standard error" : label_, bytes_per_second >> 10);
    budget_.use(line.size(), now);
    log_stderr(line);
}

}  // namespace fdbroker::opener
