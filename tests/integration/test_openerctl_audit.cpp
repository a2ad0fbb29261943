// SPDX-License-Identifier: MIT
// `openerctl audit verify` on what a real opener writes, over rotations, reloads, restarts and crashes.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

constexpr const char* policy_text =
    "version: 1\nrules: [{name: r, allow: [read], paths: [/nonexistent/x]}]\n";

Outcome openerctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

json report(std::vector<std::string> arguments, int status = 0) {
    arguments.insert(arguments.begin(), {"audit", "verify", "--json"});
    const Outcome outcome = openerctl(arguments);
    CAPTURE(outcome.out);
    CAPTURE(outcome.err);
    CHECK(outcome.status == status);
    CHECK(outcome.err.empty());
    return json::parse(outcome.out);
}

void ask(const RunningOpener& opener, unsigned times) {
    TestPeer peer(opener.socket());
    for (unsigned i = 0; i < times; ++i) peer.open("/etc/shadow-" + std::to_string(i));
}

struct Log {
    TempDir directory{};
    std::string file = directory / "audit.jsonl";
    std::string control = directory / "control.sock";
};

}  // namespace

TEST_CASE("audit verify: the chain of an opener holds over reloads, rotations, restarts and crashes") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Log log;
    {
        RunningOpener opener(log.directory, policy_text);
        ask(opener, 5);
        CHECK(openerctl({"--control", log.control, "reload"}).status == 0);
        ask(opener, 5);
        ::kill(opener.broker(), SIGKILL);
        opener.wait_for_event("start", 3);
        std::filesystem::rename(log.file, log.file + "-20261129");
        ::kill(opener.process().pid(), SIGUSR1);
        wait_for_path(log.file);
        ask(opener, 5);
        opener.process().signal(SIGTERM);
        const Outcome outcome = opener.process().wait();
        CHECK(outcome.status == 0);
        CHECK(contains(outcome.err, "the head of the audit log before its file is opened anew: "));
        CHECK(contains(outcome.err, "the head of the audit log when the opener ends: "));
    }
    {
        RunningOpener opener(log.directory, policy_text);
        ask(opener, 5);
        opener.wait_for_event("session-end", 2);
        ::kill(opener.process().pid(), SIGKILL);
        opener.process().wait();
    }
    // As the crash might have left it.
    write_file(log.file, read_file(log.file) + R"({"seq":9,"generation":1,"time":"2026-)");
    CHECK(contains(openerctl({"audit", "verify", log.file}).out, "the last line is cut short"));
    RunningOpener opener(log.directory, policy_text);
    ask(opener, 5);
    CHECK(opener.stop() == 0);

    const json whole = report({log.file, "--rotated"});
    CHECK(whole["holds"] == true);
    REQUIRE(whole["files"].size() == 2);
    CHECK(whole["files"][0]["file"] == log.file + "-20261129");
    CHECK(whole["files"][1]["follows"] == whole["files"][0]["head"]);
    CHECK(whole["files"][1]["cut_short_by_a_crash"] == 1);
    const Outcome text = openerctl({"audit", "verify", log.file, log.file + "-20261129"});
    CHECK(text.status == 0);
    CHECK(contains(text.out, "the chain holds: " + whole["records"].dump() + " records in 2 files"));
}

TEST_CASE("audit verify: the head that status tells is found, and shows what was cut off") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Log log;
    RunningOpener opener(log.directory, policy_text);
    ask(opener, 5);
    opener.wait_for_event("session-end");
    const auto head_of_status = [&] {
        return json::parse(openerctl({"--control", log.control, "status", "--json"}).out)["audit"]["head"];
    };
    // The supervisor tells it right after it has written.
    while (report({log.file})["files"][0]["head"] != head_of_status()) {
    }
    const auto head = head_of_status().get<std::string>();
    CHECK(contains(openerctl({"--control", log.control, "status"}).out, "audit head"));
    CHECK(report({log.file, "--head", head})["heads"][0]["found"] == true);
    CHECK(report({"--control", log.control, log.file, "--head", "running"})["holds"] == true);
    const std::string text = read_file(log.file);
    const std::string copy = log.directory / "copy";
    write_file(copy, text.substr(0, text.rfind('\n', text.size() - 2) + 1));
    CHECK(report({copy})["holds"] == true);
    const json cut = report({copy, "--head", head}, 1);
    CHECK(cut["heads"][0]["found"] == false);
    CHECK(cut["findings"][0]["kind"] == "missing");
    CHECK(openerctl({"audit", "verify", copy, "--head", "abc"}).status == 2);
    CHECK(openerctl({"--control", log.directory / "none", "audit", "verify", copy, "--head", "running"})
              .status == 4);
    CHECK(opener.stop() == 0);
}

TEST_CASE("audit verify: a change to a log is told with file and line") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Log log;
    {
        RunningOpener opener(log.directory, policy_text);
        ask(opener, 8);
        CHECK(opener.stop() == 0);
    }
    std::string text = read_file(log.file);
    const std::size_t at = text.find("/etc/shadow-3");
    text.replace(at, 13, "/etc/passwd-3");
    write_file(log.file, text);
    const auto line =
        std::to_string(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1);
    const Outcome changed = openerctl({"audit", "verify", log.file});
    CHECK(changed.status == 1);
    CHECK(contains(changed.out, log.file + ":" + line + ": changed: record " + line));
    CHECK(contains(changed.out, "the chain does not hold"));
    CHECK(openerctl({"audit", "verify", log.directory / "absent"}).status == 1);
    CHECK(openerctl({"audit", "verify"}).status == 2);
    CHECK(openerctl({"audit"}).status == 2);
}
