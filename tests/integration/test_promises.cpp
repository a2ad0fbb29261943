// SPDX-License-Identifier: MIT
// Two promises that only the system calls themselves can show, read with strace(1).
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";

    Fixture() {
        make_directory(data);
        write_file(data + "/secret", "the secret", {.mode = 0600});
        make_directory(directory / "traces", {.mode = 0777});
    }
    std::string policy() const {
        return "version: 1\nrules:\n  - name: data\n    allow: [read]\n    paths: [\"" + data +
               "/**\"]\n  - name: keys\n    deny: all\n    paths: [\"" + data +
               "/**/*.key\"]\n  - name: hidden\n    deny: all\n    reveal: ENOENT\n    paths: [\"" + data +
               "/hidden\"]\n";
    }
    std::string trace() const { return directory / "traces/trace"; }
};

bool has_strace() {
    return ::access("/usr/bin/strace", X_OK) == 0;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t start = 0, end; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
        lines.push_back(text.substr(start, end - start));
    }
    return lines;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

// A call that names no path but asks about a descriptor: newfstatat(1, "", …, AT_EMPTY_PATH).
bool is_about_a_descriptor(const std::string& line) {
    return contains(line, ", \"\", ") && contains(line, "AT_EMPTY_PATH");
}

}  // namespace

TEST_CASE(
    "promises: no filesystem call of the confined worker succeeds, and it prints what only root may open") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(has_strace(), "needs strace");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    const Outcome outcome =
        run({.arguments = {"/usr/bin/strace", "-f", "-s", "256", "-o", fixture.trace(), "-e",
                           "trace=%file,seccomp,prctl", worker_program(), "--socket", opener.socket(), "cat",
                           fixture.data + "/secret", "/etc/shadow"},
             .identity = Identity{.uid = nobody, .gid = nobody}});
    CHECK(outcome.out == "the secret");
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.err, "/etc/shadow"));

    const auto lines = lines_of(read_file(fixture.trace()));
    const auto confined = std::ranges::find_if(lines, [](const std::string& line) {
        return (contains(line, "seccomp(SECCOMP_SET_MODE_FILTER") || contains(line, "PR_SET_SECCOMP")) &&
               line.ends_with("= 0");
    });
    REQUIRE(confined != lines.end());
    for (auto line = confined + 1; line != lines.end(); ++line) {
        // The parent, which waits, learns of the worker's end.
        if (contains(*line, "prctl(") || contains(*line, "+++ exited") || contains(*line, "--- SIGCHLD") ||
            is_about_a_descriptor(*line))
            continue;
        CAPTURE(*line);
        CHECK(contains(*line, "= -1 E"));
    }
    // The trace is the worker's: before the confinement such calls did succeed.
    CHECK(std::any_of(lines.begin(), confined, [](const std::string& line) {
        return contains(line, "openat(") && !contains(line, "= -1");
    }));
}

TEST_CASE("promises: a refused request makes no path call in the broker, a granted one exactly one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(has_strace(), "needs strace");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy());
    TestPeer peer(opener.socket());
    // A cached file is opened with one call.
    CHECK(peer.open(fixture.data + "/secret").status == 0);

    Process strace =
        Process::start({.arguments = {"/usr/bin/strace", "-p", std::to_string(opener.broker()), "-o",
                                      fixture.trace(), "-e", "trace=%file,sendmsg,sendto,openat2"}});
    strace.wait_for_error("attached");
    for (const std::string& path :
         {std::string("/etc/shadow"), fixture.data + "/tls.key", fixture.data + "/deep/er/tls.key",
          fixture.data + "/hidden", fixture.data + "s/secret", std::string("relative"),
          fixture.data + "/../secret", std::string("/")}) {
        CHECK(peer.open(path).status != 0);
    }
    CHECK(peer.open(fixture.data + "/secret", 01).status == EACCES);
    CHECK(peer.open(fixture.data + "/secret").status == 0);
    strace.signal(SIGINT);
    strace.wait();

    const auto lines = lines_of(read_file(fixture.trace()));
    const auto count = [&](auto is_one) { return std::ranges::count_if(lines, is_one); };
    CHECK(count([](const std::string& line) { return line.starts_with("send"); }) == 10);
    CHECK(count([](const std::string& line) {
              return !line.starts_with("send") && !line.starts_with("strace") && !is_about_a_descriptor(line);
          }) == 1);
    CHECK(count([](const std::string& line) { return line.starts_with("openat2("); }) == 1);
    CHECK(std::ranges::any_of(lines, [](const std::string& line) {
        return line.starts_with("openat2(") && contains(line, "\"secret\"");
    }));
}
