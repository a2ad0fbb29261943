// SPDX-License-Identifier: MIT
// How a process ended, in words.
#pragma once

#include <string>

namespace fdbroker::opener {

// `status` is waitpid(2)'s: "exited with status 3".
std::string describe_end(int status);

}  // namespace fdbroker::opener
