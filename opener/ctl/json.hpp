// What --json writes.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "opener/ctl/disk.hpp"
#include "policy/explain.hpp"

namespace fdbroker::ctl {

// One document, indented, on standard output. Paths are bytes: what is no UTF-8 in them shows as U+FFFD.
void print_json(const nlohmann::json& document);

nlohmann::json to_json(const policy::Location& location);
nlohmann::json to_json(const policy::PeerIdentity& peer);
nlohmann::json to_json(policy::OperationSet operations);
nlohmann::json to_json(const policy::Explanation& explanation);
nlohmann::json to_json(const DiskReport& report);

}  // namespace fdbroker::ctl
