// SPDX-License-Identifier: MIT
// Random policies and paths over few names, so that they meet often; the reference must agree every time.
#include <algorithm>
#include <random>

#include "policy/explain/explain.hpp"
#include "tests/support/policy_reference.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

class Generator {
  public:
    explicit Generator(unsigned seed) : random_(seed) {}

    std::string path() { return joined({"a", "b", "ab", "alice", "a.b", ".a"}, 4); }
    std::string pattern() {
        return joined({"a", "b", "ab", "**", "**", "*", "a*", "*b", "?", "[ab]", "[!a]*", "{a,b}", "{a,*}b",
                       "${user}", "a${uid}", "*.b", "\\a", "\\x61b", "[\\x61-b]"},
                      5);
    }
    std::vector<test::ReferenceRule> rules() {
        std::vector<test::ReferenceRule> rules(number(8) + 1);
        for (auto& rule : rules) rule = {number(4) != 0, max_operations(), number(4) != 0, pattern()};
        return rules;
    }
    OperationSet asked() {
        OperationSet operations;
        for (unsigned count = number(3) + 1; count > 0; --count)
            operations.insert(static_cast<Operation>(number(operation_count)));
        return operations;
    }

  private:
    OperationSet max_operations() {
        return OperationSet::from_bits(static_cast<std::uint16_t>(random_() | random_()));
    }
    unsigned number(unsigned below) { return static_cast<unsigned>(random_() % below); }
    std::string joined(const std::vector<std::string>& names, unsigned most) {
        std::string text;
        for (unsigned count = number(most) + 1; count > 0; --count)
            text += '/' + names[number(static_cast<unsigned>(names.size()))];
        return text;
    }
    std::mt19937 random_;
};

TEST_CASE("decide: agrees with the reference on random policies") {
    unsigned allowed = 0;
    for (unsigned seed = 0; seed < 20'000; ++seed) {
        Generator generator(seed);
        const auto rules = generator.rules();
        const std::string text = generator.path();
        const auto path = RequestPath::parse(text);
        REQUIRE(path.has_value());
        const OperationSet operations = generator.asked();
        CAPTURE(seed);
        REQUIRE(test::difference(rules, operations, *path, alice()).empty());
        const Policy policy = test::policy_of(rules);
        allowed += policy.decide(policy.identify(alice()), operations, *path).has_value() ? 1U : 0U;
    }
    // Neither always the same answer nor hardly ever another one.
    CHECK(allowed > 500);
    CHECK(allowed < 19'500);
}

// The verdict that the steps of an explanation add up to, as in verdict().
std::string verdict_of_steps(const Explanation& explanation, OperationSet asked) {
    std::string rules;
    OperationSet given;
    for (const RuleStep& step : explanation.rules) {
        if (step.outcome == RuleStep::Outcome::denies) return "deny " + step.rule->name;
        if (step.outcome != RuleStep::Outcome::allows) continue;
        rules += ' ' + step.rule->name;
        given = given | step.operations;
    }
    return given == asked ? "allow" + rules : "refuse";
}

std::string verdict_of_decision(const Decision& decision) {
    if (!decision)
        return decision.error().denied_by != nullptr ? "deny " + decision.error().denied_by->name : "refuse";
    std::vector<const Rule*> rules(decision->rules().begin(), decision->rules().end());
    std::ranges::sort(rules);  // file order
    std::string text = "allow";
    for (const Rule* const rule : rules) text += ' ' + rule->name;
    return text;
}

TEST_CASE("explain: the steps add up to the decision, and every operation called missing was missing") {
    unsigned misses = 0;
    for (unsigned seed = 0; seed < 20'000; ++seed) {
        Generator generator(seed);
        const auto rules = generator.rules();
        const std::string text = generator.path();
        const auto path = RequestPath::parse(text);
        REQUIRE(path.has_value());
        const OperationSet asked = generator.asked();
        const Policy policy = test::policy_of(rules);
        const Peer peer = policy.identify(alice());
        const Explanation explanation = explain(policy, peer, asked, *path);
        CAPTURE(seed);
        CAPTURE(to_text(explanation, peer, asked, *path));
        REQUIRE(verdict_of_steps(explanation, asked) ==
                verdict_of_decision(policy.decide(peer, asked, *path)));
        REQUIRE((explanation.misses.empty() || !explanation.decision.has_value()));
        misses += explanation.misses.empty() ? 0U : 1U;
    }
    CHECK(misses > 1000);
}

}  // namespace
}  // namespace fdbroker::policy
