// SPDX-License-Identifier: MIT
#include "tests/unit/schema_check.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "opener/policy_source/policy_schema.hpp"
#include "policy/language/document.hpp"

namespace fdbroker::policy {

using nlohmann::json;

namespace {

// YAML 1.2's core schema, as far as policies need it.
json scalar_to_json(const Node& node) {
    static const std::regex integer("0|-?[1-9][0-9]*");
    if (node.quoted) return node.text;
    if (node.text == "true" || node.text == "false") return node.text == "true";
    if (node.text.size() < 19 && std::regex_match(node.text, integer)) return std::stoll(node.text);
    return node.text;
}

json node_to_json(const Node& node) {
    json value;
    switch (node.kind) {
        case Node::Kind::scalar:
            return scalar_to_json(node);
        case Node::Kind::sequence:
            value = json::array();
            for (const Node& child : node.children) value.push_back(node_to_json(child));
            return value;
        case Node::Kind::mapping:
            value = json::object();
            for (std::size_t i = 0; i < node.children.size(); i += 2)
                value[node.children[i].text] = node_to_json(node.children[i + 1]);
            return value;
        default:
            return nullptr;
    }
}

bool is_type(const std::string& type, const json& value) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "integer") return value.is_number_integer();
    REQUIRE(type == "number");
    return value.is_number();
}

bool holds_type(const json& types, const json& value) {
    if (types.is_string()) return is_type(types, value);
    return std::ranges::any_of(types, [&](const json& type) { return is_type(type, value); });
}

bool holds_pattern(const json& pattern, const std::string& text) {
    return std::regex_search(text, std::regex(pattern.get<std::string>(), std::regex::ECMAScript));
}

// Checks a keyword that looks at the value as a whole.
bool holds(const std::string& keyword, const json& wanted, const json& value) {
    if (keyword == "type") return holds_type(wanted, value);
    if (keyword == "enum") return std::ranges::find(wanted, value) != wanted.end();
    if (keyword == "anyOf")
        return std::ranges::any_of(wanted, [&](const json& part) { return deviation(part, value).empty(); });
    if (keyword == "pattern") return !value.is_string() || holds_pattern(wanted, value);
    if (keyword == "minimum") return !value.is_number() || value >= wanted;
    if (keyword == "maximum") return !value.is_number() || value <= wanted;
    if (keyword == "minItems") return !value.is_array() || value.size() >= wanted;
    if (keyword == "uniqueItems")
        return !value.is_array() || std::set<json>(value.begin(), value.end()).size() == value.size();
    if (keyword == "minProperties") return !value.is_object() || value.size() >= wanted;
    if (keyword == "required")
        return !value.is_object() ||
               std::ranges::all_of(wanted, [&](const json& key) { return value.contains(key); });
    if (keyword == "propertyNames") {
        if (!value.is_object()) return true;
        return std::ranges::all_of(
            value.items(), [&](const auto& item) { return deviation(wanted, json(item.key())).empty(); });
    }
    CAPTURE(keyword);
    const std::set<std::string> looked_at_by_deviation{"properties", "additionalProperties", "items"};
    const std::set<std::string> say_nothing{"$schema", "title", "description"};
    REQUIRE((looked_at_by_deviation.contains(keyword) || say_nothing.contains(keyword)));
    return true;
}

std::string deviation_below(const std::string& step, const json& schema, const json& value) {
    const std::string below = deviation(schema, value);
    return below.empty() ? below : "/" + step + below;
}

std::string deviation_of_members(const json& schema, const json& value) {
    for (const auto& [key, member] : value.items()) {
        const json others = schema.value("additionalProperties", json(true));
        const bool known = schema.contains("properties") && schema["properties"].contains(key);
        if (!known && others == json(false)) return "/" + key;
        if (!known && others == json(true)) continue;
        const std::string found = deviation_below(key, known ? schema["properties"][key] : others, member);
        if (!found.empty()) return found;
    }
    return {};
}

bool is_about_form(const Diagnostic& diagnostic) {
    switch (diagnostic.code) {
        case DiagnosticCode::unknown_key:
        case DiagnosticCode::missing_key:
        case DiagnosticCode::wrong_type:
        case DiagnosticCode::unknown_word:
            return true;
        default:
            return false;
    }
}

}  // namespace

json as_json(const std::string& text) {
    Problems problems;
    problems.add_file("policy.yaml");
    const auto root = parse_document(text, 0, problems);
    return root ? node_to_json(*root) : json();
}

std::string deviation(const json& schema, const json& value) {
    for (const auto& [keyword, wanted] : schema.items())
        if (!holds(keyword, wanted, value)) return "(" + keyword + ")";
    if (value.is_object()) return deviation_of_members(schema, value);
    if (!value.is_array() || !schema.contains("items")) return {};
    for (std::size_t i = 0; i < value.size(); ++i) {
        const std::string found = deviation_below(std::to_string(i), schema["items"], value[i]);
        if (!found.empty()) return found;
    }
    return {};
}

void check_schema(const Source& source, Document kind,
                  const std::expected<Policy, std::vector<Diagnostic>>& loaded) {
    // A long value tests nothing that a shorter one does not.
    constexpr std::size_t long_text = 8192;
    if (source.text.size() > long_text) return;
    std::vector<Diagnostic> told;
    if (!loaded)
        std::ranges::copy_if(loaded.error(), std::back_inserter(told),
                             [&](const Diagnostic& diagnostic) { return diagnostic.file == source.name; });
    // JSON cannot say what of YAML the language leaves out, nor that a key stands there twice.
    const auto beyond_json = [](const Diagnostic& diagnostic) {
        return diagnostic.code == DiagnosticCode::syntax || diagnostic.code == DiagnosticCode::duplicate ||
               diagnostic.code == DiagnosticCode::further;
    };
    if (std::ranges::any_of(told, beyond_json)) return;
    const bool form_is_wrong = std::ranges::any_of(told, is_about_form);
    if (!told.empty() && !form_is_wrong) return;
    static const json schemas[] = {opener::policy_schema(Document::policy),
                                   opener::policy_schema(Document::fragment)};
    const std::string place = deviation(schemas[static_cast<std::size_t>(kind)], as_json(source.text));
    CAPTURE(source.text);
    CAPTURE(place);
    if (form_is_wrong) CAPTURE(told.front().what());
    CHECK(place.empty() == !form_is_wrong);
}

}  // namespace fdbroker::policy
