// SPDX-License-Identifier: MIT
// A terminal whose other end tells whether it was ever opened: it hangs up when the last that had it open closes it.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include <stdexcept>
#include <string>

#include "proto/unique_fd.hpp"
#include "tests/support/deadline.hpp"

namespace fdbroker::test {

class Terminal {
  public:
    Terminal() : other_end_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (!other_end_ || ::unlockpt(other_end_.number()) != 0)
            throw std::runtime_error("no terminal can be made");
    }
    std::string name() const { return ::ptsname(other_end_.number()); }
    // And closed since.
    bool was_opened() const { return hangs_up(0); }
    // Waits until it has been closed, in good time.
    bool comes_to_be_opened() const { return hangs_up(milliseconds_until(in_good_time())); }

  private:
    bool hangs_up(int timeout) const {
        pollfd event{other_end_.number(), 0, 0};
        return ::poll(&event, 1, timeout) == 1 && (event.revents & POLLHUP) != 0;
    }
    proto::UniqueFd other_end_;
};

}  // namespace fdbroker::test
