// SPDX-License-Identifier: MIT
// What libfdbroker offers to the programs of this house beyond its C functions.
#pragma once

#include <string>

#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::worker {

// Where fdbroker_connect(`given`) connects to, as text: `given`, or what NULL stands for.
std::string address_text(const char* given);

// fdbroker_confine() with its report; the flags are its own and valid.
proto::Result<SandboxReport> confine_with_report(unsigned flags);

}  // namespace fdbroker::worker
