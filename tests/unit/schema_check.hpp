// SPDX-License-Identifier: MIT
// Holds the loader and the JSON Schema together: each document that a test loads is put to both.
#pragma once

#include <expected>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "policy/language/loader.hpp"
#include "policy/language/shape.hpp"

namespace fdbroker::policy {

// The document as JSON; null where it is empty or no YAML.
nlohmann::json as_json(const std::string& text);

// Where `value` does not conform to `schema`, a JSON pointer; empty: it does. Knows the keywords that the schema uses, and
// fails the test for another.
std::string deviation(const nlohmann::json& schema, const nlohmann::json& value);

// Fails the test when the schema refuses what the loader takes, or takes what the loader refuses for its form.
void check_schema(const Source& source, Document kind,
                  const std::expected<Policy, std::vector<Diagnostic>>& loaded);

}  // namespace fdbroker::policy
