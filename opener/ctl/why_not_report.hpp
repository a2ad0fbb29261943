// SPDX-License-Identifier: MIT
// `openerctl policy explain --why-not`: the edits that would allow what is refused.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "policy/advice/why_not.hpp"

namespace fdbroker::ctl {

// The edits that would allow the request, as lines or as a list. Empty text: there is none.
std::string why_not_text(const std::vector<policy::WhyNotEdit>& edits);
nlohmann::json why_not_to_json(const std::vector<policy::WhyNotEdit>& edits);

}  // namespace fdbroker::ctl
