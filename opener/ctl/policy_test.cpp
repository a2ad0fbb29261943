// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "opener/ctl/json.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "policy/explain/explain.hpp"
#include "policy/explain/run_test.hpp"

namespace fdbroker::ctl {

namespace {

using policy::Policy;
using policy::TestResult;

std::string expected(const policy::Test& test) {
    const std::string rule = test.rule.empty() ? "" : fmt::format(" by rule \"{}\"", test.rule);
    return (test.allowed ? "allow" : "refuse") + rule;
}

// Calls `use(explanation, peer, path)` with the explanation of a test's outcome. A path of a test is canonical.
template <typename Use>
auto explained(const Policy& policy, const policy::Test& test, const Use& use) {
    const auto path = policy::RequestPath::parse(test.path);
    const policy::Peer peer = policy.identify(test.peer);
    return use(policy::explain(policy, peer, test.operations, path.value()), peer, path.value());
}

std::string indented(std::string_view text) {
    std::string lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines += fmt::format("    {}\n", text.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

void print_result(const Policy& policy, const TestResult& result, bool colour) {
    const policy::Test& test = *result.test;
    if (result.passed) {
        print_raw(painted("ok", Colour::green, colour));
        print(fmt::format("      {}: {}\n", test.text, result.got));
        return;
    }
    print_raw(painted("failed", Colour::red, colour));
    print(fmt::format("  {}:{}: {}: {}, expected {}\n", test.location.file, test.location.line, test.text,
                      result.got, expected(test)));
    const std::string why = explained(
        policy, test, [&](const policy::Explanation& explanation, const policy::Peer& peer, auto path) {
            return policy::to_text(explanation, peer, test.operations, path);
        });
    print(indented(why));
}

nlohmann::json result_to_json(const Policy& policy, const TestResult& result) {
    const policy::Test& test = *result.test;
    nlohmann::json one{{"test", test.text},
                       {"location", to_json(test.location)},
                       {"passed", result.passed},
                       {"got", result.got},
                       {"expected", expected(test)}};
    if (result.passed) return one;
    one["explanation"] = explained(
        policy, test,
        [](const policy::Explanation& explanation, const auto&, auto) { return to_json(explanation); });
    return one;
}

}  // namespace

ExitStatus policy_test(const TestOptions& options) {
    const PolicyFiles files = read_policy(options.file, policy::OwnTests::left_to_caller);
    if (!files.policy) {
        return report_diagnostics(files, options.json);
    }
    std::vector<TestResult> results;
    for (const policy::Test& test : policy::tests(*files.policy))
        results.push_back(policy::run(*files.policy, test));
    const auto failed = static_cast<std::size_t>(std::ranges::count(results, false, &TestResult::passed));
    if (options.json) {
        nlohmann::json all = nlohmann::json::array();
        for (const TestResult& result : results) all.push_back(result_to_json(*files.policy, result));
        print_json({{"tests", std::move(all)}, {"failed", failed}});
    } else {
        const bool colour = takes_colour(STDOUT_FILENO);
        for (const TestResult& result : results) print_result(*files.policy, result, colour);
        print(fmt::format("{}: {} test{}, {} failed\n", options.file, results.size(),
                          results.size() == 1 ? "" : "s", failed));
    }
    return failed == 0 ? opener::exit_done : opener::exit_failed;
}

}  // namespace fdbroker::ctl
