// SPDX-License-Identifier: MIT
// openerctl's side of the control socket.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::ctl {

class OpenerConnection {
  public:
    // `address` as opener's --control takes it. Every error means that the opener cannot be reached.
    static proto::Result<OpenerConnection> connect(const std::string& address);

    // From now on nothing takes longer than this; what does is an error.
    void wait_at_most(std::chrono::seconds time);
    // The one line that this connection is for, without a line feed.
    proto::Result<void> ask(std::string_view line);
    // The next line of the answer, without its line feed, as soon as it is there; nullopt: it has ended.
    proto::Result<std::optional<std::string>> next_line();
    // Whether next_line() has one without waiting.
    bool has_line() const noexcept { return received_.find('\n', used_) != std::string::npos; }
    // All that is left of the answer.
    proto::Result<std::string> rest();

  private:
    explicit OpenerConnection(proto::UniqueFd socket) : socket_(std::move(socket)) {}
    proto::Result<bool> receive_more();

    proto::UniqueFd socket_;
    std::string received_{};
    std::size_t used_ = 0;  // bytes of `received_`
};

}  // namespace fdbroker::ctl
