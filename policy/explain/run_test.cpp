// SPDX-License-Identifier: MIT
#include "policy/explain/run_test.hpp"

#include "policy/explain/explain.hpp"
#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

// The rule that a test's `rule:` names.
std::string deciding_rule(const Decision& decision) {
    if (decision) return decision->rule().name;
    return decision.error().denied_by != nullptr ? decision.error().denied_by->name : std::string();
}

}  // namespace

TestResult run(const Policy& policy, const Test& test) {
    const auto path = RequestPath::parse(test.path);
    if (!path) return {.test = &test, .passed = false, .got = std::string(to_string(path.error()))};
    const Peer peer = policy.identify(test.peer);
    const Decision decision = policy.decide(peer, test.operations, *path);
    const bool passed =
        decision.has_value() == test.allowed && (test.rule.empty() || deciding_rule(decision) == test.rule);
    return {.test = &test, .passed = passed, .allowed = decision.has_value(), .got = to_text(decision)};
}

}  // namespace fdbroker::policy
