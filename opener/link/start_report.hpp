// SPDX-License-Identifier: MIT
// What there is to say while a generation starts: to whoever reads standard error, and kept for whoever asked for the
// start, so that `openerctl reload` shows what is wrong with the policy, place by place.
//
// The text lies in a file in memory that the supervisor and the starting generation share; neither parses it. A
// generation gives its end up before it serves.
#pragma once

#include <string_view>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class StartReport {
  public:
    // Bytes that are kept. Standard error gets all.
    static constexpr std::size_t max_size = std::size_t{64} << 10;

    static proto::Result<StartReport> create();

    // As those of opener/base/log_stderr.hpp.
    void log_error(std::string_view text) const;
    void log_stderr(std::string_view text) const;
    void log_stderr_plainly(std::string_view text) const;

    proto::BorrowedFd descriptor() const noexcept { return file_.borrow(); }
    // Closes this process's end.
    void give_up() noexcept { file_.reset(); }
    // The report as a sealed file; nothing is kept from now on. Empty: there is none.
    proto::UniqueFd take() noexcept;

  private:
    explicit StartReport(proto::UniqueFd file) : file_(std::move(file)) {}
    void keep(std::string_view text) const;
    proto::UniqueFd file_;
};

}  // namespace fdbroker::opener
