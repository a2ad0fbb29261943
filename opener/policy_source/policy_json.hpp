// SPDX-License-Identifier: MIT
// Decisions and what led to them as JSON: for openerctl, and for whoever asks the running opener.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "policy/explain/explain.hpp"

namespace fdbroker::opener {

nlohmann::json to_json(const policy::Location& location);
nlohmann::json to_json(const policy::PeerIdentity& peer);
nlohmann::json to_json(policy::OperationSet operations);
nlohmann::json to_json(const policy::Explanation& explanation);

}  // namespace fdbroker::opener
