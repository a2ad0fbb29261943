// SPDX-License-Identifier: MIT
// Says on standard error how far a command is that takes longer than a second.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace fdbroker::ctl {

class ProgressLine {
  public:
    using Clock = std::chrono::steady_clock;
    enum class Beside { text, json };  // beside JSON only a terminal is told anything
    // `what` is doing something: "policy replay".
    ProgressLine(std::string what, Beside output);
    // Takes the line away from a terminal.
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    // `share` is from 0 to 1; below 0: it is not known. Cheap where nothing is to be said yet. On a terminal one line is
    // written anew; elsewhere there is one after a second, and then one in ten.
    void tell(double share, std::string_view so_far);

  private:
    std::string what_;
    bool terminal_;
    bool silent_;
    Clock::time_point next_;
    bool shown_ = false;
};

}  // namespace fdbroker::ctl
