// SPDX-License-Identifier: MIT
#include "opener/ctl/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "opener/ctl/terminal.hpp"

namespace fdbroker::ctl {

namespace {

constexpr std::chrono::milliseconds first_after{1000};
constexpr std::chrono::milliseconds on_terminal{200};
constexpr std::chrono::milliseconds elsewhere{10'000};

}  // namespace

ProgressLine::ProgressLine(std::string what, Beside output)
    : what_(std::move(what)),
      terminal_(is_terminal(STDERR_FILENO)),
      silent_(output == Beside::json && !terminal_),
      next_(Clock::now() + first_after) {}

ProgressLine::~ProgressLine() {
    if (shown_ && terminal_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressLine::tell(double share, std::string_view so_far) {
    const auto now = Clock::now();
    if (silent_ || now < next_) return;
    next_ = now + (terminal_ ? on_terminal : elsewhere);
    const std::string percent =
        share < 0 ? std::string() : fmt::format("{:.0f} %, ", 100 * std::clamp(share, 0.0, 1.0));
    const std::string text = fmt::format("{}: {}{}", what_, percent, so_far);
    shown_ = true;
    if (terminal_)
        fmt::print(stderr, "\r{}\x1b[K", text);
    else
        complain(text);
    std::fflush(stderr);
}

}  // namespace fdbroker::ctl
