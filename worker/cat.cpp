// SPDX-License-Identifier: MIT
#include "worker/cat.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "worker/copy.hpp"

namespace fdbroker::worker {

ExitStatus cat(fdbroker_handle* broker, std::span<const std::string> paths) {
    ExitStatus status = ExitStatus::done;
    for (const std::string& path : paths) {
        const int opened = fdbroker_open(broker, path.c_str(), O_RDONLY | O_CLOEXEC, 0);
        if (opened < 0) {
            complain(fmt::format("{}: {}: {}", path, std::strerror(-opened), fdbroker_reason(broker)));
            if (opened == -ECONNRESET || opened == -EPROTO) return ExitStatus::unreachable;
            status = ExitStatus::failed;
            continue;
        }
        const proto::UniqueFd file(opened);
        const auto copied = copy(file.borrow(), proto::BorrowedFd(STDOUT_FILENO));
        if (copied) continue;
        status = ExitStatus::failed;
        const bool is_output = copied.error().side == CopySide::target;
        complain(fmt::format("{}: {}", is_output ? "standard output" : path,
                             std::strerror(copied.error().errno_value)));
        if (is_output) break;
    }
    return status;
}

}  // namespace fdbroker::worker
