// SPDX-License-Identifier: MIT
// The main function of every doctest executable.
//
// Adds to doctest's own output one line per skipped test case, "skipped: NAME: why", and at the end
// "test cases: N passed, N failed, N skipped", which bootstrap adds up. Exit status: 0; 1: something failed;
// 77 (meson's skip): nothing could be run.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <iostream>
#include <optional>
#include <string>

#include "tests/support/verdict.hpp"

namespace {

struct Counts {
    unsigned passed = 0;
    unsigned failed = 0;
    unsigned skipped = 0;
};
Counts counts;

class Listener : public doctest::IReporter {
  public:
    explicit Listener(const doctest::ContextOptions&) {}

    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_start(const doctest::TestCaseData& test_case) override { name_ = test_case.m_name; }
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
        const std::optional<std::string> reason = fdbroker::test::take_skip();
        if (!stats.testCaseSuccess) {
            ++counts.failed;
        } else if (reason) {
            ++counts.skipped;
            std::cout << "skipped: " << name_ << ": " << *reason << '\n' << std::flush;
        } else {
            ++counts.passed;
        }
    }
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData& assertion) override {
        if (assertion.m_failed) fdbroker::test::count_failed_assertion();
    }
    void log_message(const doctest::MessageData& message) override {
        // FAIL and FAIL_CHECK; MESSAGE is only a warning.
        if ((message.m_severity & doctest::assertType::is_warn) == 0)
            fdbroker::test::count_failed_assertion();
    }
    void test_case_skipped(const doctest::TestCaseData&) override {}

  private:
    std::string name_;
};

}  // namespace

DOCTEST_REGISTER_LISTENER("skips", 1, Listener);

int main(int argc, char** argv) {
    doctest::Context context;
    context.setOption("no-intro", true);
    context.setOption("no-version", true);
    context.applyCommandLine(argc, argv);
    const int status = context.run();
    if (context.shouldExit()) return status;
    std::cout << "test cases: " << counts.passed << " passed, " << counts.failed << " failed, "
              << counts.skipped << " skipped" << '\n'
              << std::flush;
    if (status != 0) return status;
    return counts.passed == 0 && counts.skipped > 0 ? 77 : 0;
}
