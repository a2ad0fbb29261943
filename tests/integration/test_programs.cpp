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

}  // namespace

TEST_CASE("programs: what is thrown and caught nowhere is said before the end") {
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
