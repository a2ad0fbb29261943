#include "policy/test.hpp"

#include <fmt/format.h>

#include "policy/compiled.hpp"

namespace fdbroker::policy {
namespace {

std::string list(OperationSet operations) {
    std::string text;
    for (unsigned index = 0; index < operation_count; ++index) {
        const auto operation = static_cast<Operation>(index);
        if (!operations.contains(operation)) continue;
        if (!text.empty()) text += ", ";
        text += to_string(operation);
    }
    return text;
}

struct Outcome {
    bool allowed = false;
    std::string rule{};
    std::string text{};
};

Outcome outcome(const Decision& decision) {
    if (decision)
        return {true, decision->rule().name, fmt::format("allowed by rule \"{}\"", decision->rule().name)};
    const Refusal& refusal = decision.error();
    if (refusal.denied_by != nullptr)
        return {false, refusal.denied_by->name,
                fmt::format("refused by rule \"{}\"", refusal.denied_by->name)};
    return {false, "", fmt::format("refused: no rule allows {}", list(refusal.operations))};
}

}  // namespace

std::span<const Test> tests(const Policy& policy) noexcept {
    return policy.compiled().tests;
}

TestResult run(const Policy& policy, const Test& test) {
    const auto path = RequestPath::parse(test.path);
    if (!path) return {.test = &test, .passed = false, .got = std::string(to_string(path.error()))};
    const Peer peer = policy.identify(test.peer);
    Outcome got = outcome(policy.decide(peer, test.operations, *path));
    const bool passed = got.allowed == test.allowed && (test.rule.empty() || got.rule == test.rule);
    return {.test = &test, .passed = passed, .got = std::move(got.text)};
}

}  // namespace fdbroker::policy
