// SPDX-License-Identifier: MIT
// The form of a policy as a JSON Schema (draft 7), for editors and for checks where no opener is.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "policy/language/shape.hpp"

namespace fdbroker::opener {

// The loader refuses whatever the schema refuses, and more: globs, names that do not exist, settings that contradict.
// A mode is wanted in quotes, since YAML 1.2 reads 0640 as a decimal number.
nlohmann::json policy_schema(policy::Document document);

}  // namespace fdbroker::opener
