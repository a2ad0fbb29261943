// SPDX-License-Identifier: MIT
// A client of the control socket that may also say what openerctl never would.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::test {

class ControlPeer {
  public:
    // Throws std::runtime_error when it cannot connect.
    explicit ControlPeer(const std::filesystem::path& path);

    proto::BorrowedFd socket() const { return socket_.borrow(); }
    // As much as the other end takes before it hangs up.
    void send(std::string_view text) const;
    // That nothing more will be sent.
    void end() const;

    // The next line, without its line feed; "" at the end.
    std::string line();
    // All until the end.
    std::string rest();
    // Sends a command and returns the first line of the answer.
    std::string ask(std::string_view command);
    nlohmann::json ask_json(std::string_view command) { return nlohmann::json::parse(ask(command)); }
    // Drops everything that has arrived.
    void drop_what_came();

  private:
    bool receive();
    proto::UniqueFd socket_;
    std::string text_{};
};

}  // namespace fdbroker::test
