// SPDX-License-Identifier: MIT
// What --json writes.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "opener/ctl/disk.hpp"
#include "opener/policy_source/policy_json.hpp"

namespace fdbroker::ctl {

// Prints a document, indented, to standard output. Paths go through printable(): they are bytes.
void print_json(const nlohmann::json& document);

using opener::to_json;
nlohmann::json to_json(const DiskReport& report);

}  // namespace fdbroker::ctl
