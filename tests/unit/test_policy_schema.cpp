// SPDX-License-Identifier: MIT
// The JSON Schema of the policy language. Every document of the loader's tests is put to it, too (schema_check.hpp).
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "opener/policy_source/policy_schema.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using nlohmann::json;

json schema() {
    return opener::policy_schema(Document::policy);
}

std::string content_of(const std::filesystem::path& file) {
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), {}};
}

TEST_CASE("schema: a document that is refused is refused at its place") {
    const auto place = [](const std::string& rest) {
        return deviation(schema(),
                         as_json("version: 1\nrules:\n  - {name: r, allow: [read], paths: [/x]" + rest));
    };
    CHECK(place("}\n").empty());
    CHECK_FALSE(place(", pths: [/y]}\n").empty());
    CHECK_FALSE(place(", files: {max_links: many}}\n").empty());
    CHECK(place(", files: {max_links: any}}\n").empty());
    CHECK(place("}\nlimits: {connections: 0}\n") == "/limits/connections(minimum)");
    CHECK(place("}\nlimits: {connections: '5'}\n") == "/limits/connections(type)");
    CHECK(place("}\nroles: {web: {user: [x]}}\n") == "/roles/web/user");
    CHECK(place("}\nroles: {'a b': {users: [x]}}\n") == "/roles(propertyNames)");
    CHECK(place("}\ntests: [{as: {user: x}, expect: allow}]\n") == "/tests/0(minProperties)");
    CHECK(place("}\naudit: {max_size: 1MB}\n") == "/audit/max_size(pattern)");
}

TEST_CASE("schema: each key of a policy stands in it, and a fragment has fewer") {
    const json whole = schema()["properties"];
    for (const char* key : {"version", "include", "roles", "defaults", "rules", "limits", "audit", "tests"})
        CHECK(whole.contains(key));
    const json fragment = opener::policy_schema(Document::fragment)["properties"];
    CHECK(fragment.size() == 3);
    CHECK(fragment["rules"] == whole["rules"]);
    const json allow = whole["rules"]["items"]["anyOf"][0]["properties"];
    CHECK(allow["name"]["pattern"] == "^[A-Za-z0-9._-]{1,64}$");
    CHECK(allow["allow"]["items"]["enum"].size() == operation_words().size());
    CHECK(whole["rules"]["items"]["anyOf"][1]["properties"]["deny"]["anyOf"][0]["enum"][0] == "all");
}

TEST_CASE("schema: the example policies conform, and name it in their first line") {
    for (const auto& entry : std::filesystem::directory_iterator(FDBROKER_EXAMPLE_POLICIES)) {
        const std::string text = content_of(entry.path());
        CAPTURE(entry.path().string());
        CHECK(text.starts_with("# yaml-language-server: $schema=/usr/share/fdbroker/policy.schema.json\n"));
        CHECK(deviation(schema(), as_json(text)).empty());
    }
}

}  // namespace
}  // namespace fdbroker::policy
