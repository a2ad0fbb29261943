// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_schema.hpp"

#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace fdbroker::opener {

using nlohmann::json;
using policy::Shape;

namespace {

// A text may be written without quotes, and is a number or a truth value for YAML then.
const json any_scalar{"string", "number", "boolean"};

// From 1ms to 60min, as Reader::time() takes it.
constexpr const char* time_pattern =
    "^(([1-9][0-9]{0,5}|[12][0-9]{6}|3[0-5][0-9]{5}|3600000)ms|([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|"
    "3600)s|([1-9]|[1-5][0-9]|60)min)$";

json to_schema(const Shape& shape);

json mapping_schema(const Shape& shape) {
    json properties = json::object(), required = json::array(), one_more = json::array();
    for (std::size_t i = 0; i < shape.keys.size(); ++i) {
        properties[shape.keys[i].name] = to_schema(shape.parts[i]);
        if (shape.keys[i].required) required.push_back(shape.keys[i].name);
    }
    json schema{{"type", "object"},
                {"properties", std::move(properties)},
                {"additionalProperties", false},
                {"minProperties", shape.one_more ? required.size() + 1 : 1}};
    if (!required.empty()) schema["required"] = std::move(required);
    return schema;
}

json number_schema(const Shape& shape) {
    json schema{{"type", "integer"}, {"minimum", shape.least}};
    if (shape.most != std::numeric_limits<std::uint64_t>::max()) schema["maximum"] = shape.most;
    return schema;
}

json either_schema(const std::vector<Shape>& shapes) {
    if (shapes.size() == 1) return to_schema(shapes.front());
    json parts = json::array();
    for (const Shape& part : shapes) parts.push_back(to_schema(part));
    return {{"anyOf", std::move(parts)}};
}

json to_schema(const Shape& shape) {
    using Kind = Shape::Kind;
    switch (shape.kind) {
        case Kind::text:
        case Kind::account:
            return {{"type", any_scalar}};
        case Kind::truth:
            return {{"type", "boolean"}};
        case Kind::number:
            return number_schema(shape);
        case Kind::size:
            return {{"type", {"string", "integer"}},
                    {"minimum", 0},
                    {"pattern", "^(0|[1-9][0-9]*)(B|KiB|MiB|GiB|TiB)?$"}};
        case Kind::time:
            return {{"type", "string"}, {"pattern", time_pattern}};
        case Kind::mode:
            return {{"type", "string"}, {"pattern", "^0[0-7]{3}$"}};
        case Kind::word:
            return {{"enum", shape.words}};
        case Kind::name:
            return {{"type", any_scalar}, {"pattern", "^[A-Za-z0-9._-]{1,64}$"}};
        case Kind::list:
            return {{"type", "array"},
                    {"items", either_schema(shape.parts)},
                    {"minItems", 1},
                    {"uniqueItems", true}};
        case Kind::mapping:
            return mapping_schema(shape);
        case Kind::named:
            return {{"type", "object"},
                    {"propertyNames", {{"pattern", "^[A-Za-z0-9._-]{1,64}$"}}},
                    {"additionalProperties", to_schema(shape.parts.front())},
                    {"minProperties", 1}};
        case Kind::either:
            break;
    }
    return either_schema(shape.parts);
}

}  // namespace

json policy_schema(policy::Document document) {
    const bool whole = document == policy::Document::policy;
    json schema = to_schema(policy::describe_language(document));
    if (!whole) schema["type"] = {"object", "null"};  // an empty policy loads
    schema["$schema"] = "http://json-schema.org/draft-07/schema#";
    schema["title"] = whole ? "fdbroker policy" : "fragment of an fdbroker policy";
    schema["description"] = "fdbroker-policy(5)";
    return schema;
}

}  // namespace fdbroker::opener
