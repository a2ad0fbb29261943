// SPDX-License-Identifier: MIT
// The policies that the documentation shows: on a machine with their accounts they load, their tests hold, and lint
// has nothing to say about them.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "policy/explain/run_test.hpp"
#include "policy/lint/lint.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

FakeAccounts machine() {
    FakeAccounts accounts;
    accounts.users.insert({{"shipper", 2001}, {"convert", 2002}});
    accounts.groups.insert({{"shipper", 2001}, {"convert", 2002}, {"jobs", 2003}});
    return accounts;
}

std::string contents(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE(file.is_open());
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("examples: every policy in docs/policies loads with its tests") {
    unsigned count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(FDBROKER_EXAMPLE_POLICIES)) {
        CAPTURE(entry.path().string());
        const auto policy = load({entry.path().filename(), contents(entry.path())}, no_fragments, machine());
        if (!policy)
            for (const Diagnostic& diagnostic : policy.error()) MESSAGE(diagnostic.what());
        REQUIRE(policy.has_value());
        CHECK(tests(*policy).size() >= 5);
        for (const Finding& finding : lint(*policy, machine(), nullptr)) FAIL_CHECK(finding.what());
        ++count;
    }
    CHECK(count == 5);
}

// The blocks of a guide between ```yaml and ```.
std::vector<std::string> yaml_blocks(const std::string& text) {
    std::vector<std::string> blocks;
    for (std::size_t at = text.find("```yaml\n"); at != std::string::npos; at = text.find("```yaml\n", at)) {
        at += 8;
        const std::size_t end = text.find("```", at);
        REQUIRE(end != std::string::npos);
        blocks.push_back(text.substr(at, end - at));
        at = end;
    }
    return blocks;
}

TEST_CASE("examples: every policy that the guide shows loads with its tests") {
    const auto blocks = yaml_blocks(contents(FDBROKER_POLICY_GUIDE));
    CHECK(blocks.size() >= 4);
    for (const std::string& block : blocks) {
        CAPTURE(block);
        const auto policy = load({"guide", block}, no_fragments, machine());
        if (!policy)
            for (const Diagnostic& diagnostic : policy.error()) MESSAGE(diagnostic.what());
        CHECK(policy.has_value());
    }
}

}  // namespace
}  // namespace fdbroker::policy
