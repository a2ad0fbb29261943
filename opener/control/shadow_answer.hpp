// SPDX-License-Identifier: MIT
// What `shadow --report` answers, as JSON and as text.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "opener/control/host.hpp"
#include "opener/control/text.hpp"

namespace fdbroker::opener {

nlohmann::json answer_shadow(const GenerationFacts& facts);
std::string shadow_text(const nlohmann::json& answer, const TextStyle& style);

}  // namespace fdbroker::opener
