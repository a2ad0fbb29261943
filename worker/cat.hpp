// SPDX-License-Identifier: MIT
// `worker cat`: prints files that the broker opens.
#pragma once

#include <span>
#include <string>

#include "worker/client/c_api.hpp"
#include "worker/ending.hpp"

namespace fdbroker::worker {

// Prints file after file to standard output. A refused or unreadable file is complained about, and the others are printed
// all the same. Ends at the loss of the connection or of standard output. SIGPIPE is to be ignored.
ExitStatus cat(fdbroker_handle* broker, std::span<const std::string> paths);

}  // namespace fdbroker::worker
