// SPDX-License-Identifier: MIT
// The descriptors that a service manager passed when it started this process (sd_listen_fds_with_names(3)).
#pragma once

#include <string>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct PassedSocket {
    std::string name;  // FileDescriptorName=; "unknown" where no names were passed
    proto::UniqueFd socket;
};

// Takes them, close-on-exec, and removes $LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES, so that no child and no second call
// takes them again. Empty: none were passed, or they were passed to another process.
// EINVAL: the number of descriptors, or of names, cannot be; EBADF: one of them is not open.
proto::Result<std::vector<PassedSocket>> take_passed_sockets();

}  // namespace fdbroker::opener
