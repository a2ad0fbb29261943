// SPDX-License-Identifier: MIT
#include "opener/base/wait_status.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

namespace fdbroker::opener {

std::string describe_end(int status) {
    if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
    return fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace fdbroker::opener
