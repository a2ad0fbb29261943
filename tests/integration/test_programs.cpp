// SPDX-License-Identifier: MIT
// What the three programs have in common.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>

#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

// With so little memory that an allocation fails: the one exception that any program can meet.
Outcome run_short_of_memory(std::size_t bytes, std::vector<std::string> command) {
    const std::vector<std::string> limit{"prlimit", fmt::format("--as={}", bytes), "--core=0"};
    command.insert(command.begin(), limit.begin(), limit.end());
    return run({.arguments = std::move(command)});
}

// 11 MiB of text; many times that when it is loaded.
std::string long_policy() {
    std::string text = "version: 1\nrules:\n";
    for (int number = 0; number < 150'000; ++number)
        text += fmt::format("  - {{name: rule{0}, allow: [read], paths: [\"/srv/some/directory/{0}/**\"]}}\n",
                            number);
    return text;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string output_of(std::vector<std::string> command) {
    const Outcome outcome = run({.arguments = std::move(command)});
    CHECK(outcome.status == 0);
    CHECK(outcome.err.empty());
    return outcome.out;
}

}  // namespace

TEST_CASE("programs: --version prints the name and one version, the same of all") {
    const std::string opener = output_of({opener_program(), "--version"});
    REQUIRE(opener.starts_with("opener "));
    const std::string version = opener.substr(opener.find(' '));
    CHECK(output_of({openerctl_program(), "--version"}) == "openerctl" + version);
    CHECK(output_of({worker_program(), "--version"}) == "worker" + version);
}

TEST_CASE("programs: --help shows no C++ type and no range of one") {
    const std::vector<std::vector<std::string>> commands{
        {opener_program()},
        {openerctl_program()},
        {openerctl_program(), "policy", "check"},
        {openerctl_program(), "policy", "explain"},
        {openerctl_program(), "workers"},
        {worker_program()},
        {worker_program(), "cat"},
        {worker_program(), "put"},
    };
    for (auto command : commands) {
        command.emplace_back("--help");
        const std::string help = output_of(std::move(command));
        CAPTURE(help);
        for (const char* type : {" TEXT ", "TEXT:", "UINT", " INT", "REQUIRED"})
            CHECK_FALSE(contains(help, type));
    }
}

TEST_CASE("programs: opener tells which option a misspelt one was meant to be") {
    const Outcome outcome = run({.arguments = {opener_program(), "--polcy", "/x", "--check"}});
    CHECK(outcome.status == 2);
    CHECK(contains(outcome.err, "opener: --polcy: there is no such option (did you mean \"--policy\"?)"));
}

TEST_CASE("programs: an uncaught exception is reported before the end") {
    FDBROKER_SKIP_UNLESS(sanitizer() == "none", "a sanitizer's shadow needs more memory than that");
    const TempDir directory;
    write_file(directory / "policy.yaml", long_policy());

    const Outcome opener = run_short_of_memory(
        64 * mebibyte, {opener_program(), "--check", "--policy", directory / "policy.yaml"});
    CHECK(opener.signal == SIGABRT);
    CHECK(contains(opener.err, "std::bad_alloc"));

    const Outcome openerctl = run_short_of_memory(
        64 * mebibyte, {openerctl_program(), "policy", "check", directory / "policy.yaml"});
    CHECK(openerctl.status == 1);
    CHECK(openerctl.err == "openerctl: std::bad_alloc\n");

    std::vector<std::string> paths(150'000, "/a");
    paths.insert(paths.begin(), {worker_program(), "cat"});
    const Outcome worker = run_short_of_memory(28 * mebibyte, std::move(paths));
    CHECK(worker.status == 1);
    CHECK(worker.err == "worker: std::bad_alloc\n");
}
