// SPDX-License-Identifier: MIT
// Environments of programs, as lists of NAME=VALUE.
#pragma once

#include <string>
#include <vector>

namespace fdbroker::proto {

// `variable` is NAME=VALUE, and takes the place of another of that name.
void set_variable(std::vector<std::string>& environment, std::string variable);

}  // namespace fdbroker::proto
