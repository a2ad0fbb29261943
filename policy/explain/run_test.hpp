// SPDX-License-Identifier: MIT
// Runs the tests that a policy carries along.
#pragma once

#include <string>

#include "policy/matching/policy.hpp"
#include "policy/matching/policy_test.hpp"

namespace fdbroker::policy {

struct TestResult {
    const Test* test = nullptr;
    bool passed = false;
    bool allowed = false;
    std::string got{};  // "allowed by rule "site"", in the same words whether it passed or not
};

TestResult run(const Policy& policy, const Test& test);

}  // namespace fdbroker::policy
