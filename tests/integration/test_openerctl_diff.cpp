// SPDX-License-Identifier: MIT
// `openerctl policy diff`, `policy suggest` and `policy explain --why-not`.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* old_text = R"(version: 1
roles:
  web: {users: [nobody]}
rules:
  - {name: site, roles: [web], allow: [read, stat], paths: ["/srv/www/**"]}
  - {name: keys, deny: all, paths: ["/srv/**/*.key"]}
)";
constexpr const char* same_text = R"(version: 1
roles:
  readers: {users: [nobody]}
rules:
  - {name: no-keys, deny: all, paths: ["/srv/**/*.key"]}
  - {name: pages, roles: [readers], allow: [read], paths: ["/srv/www/**"]}
  - {name: looks, roles: [readers], allow: [stat], paths: ["/srv/www/**"]}
)";
constexpr const char* new_text = R"(version: 1
roles:
  web: {users: [nobody]}
rules:
  - {name: site, roles: [web], allow: [read, stat], paths: ["/srv/www/**"]}
  - {name: tmp, allow: [write], paths: [/tmp/x]}
)";

Outcome openerctl(std::vector<std::string> arguments, const std::string& input = {}) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments), .input = input});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

struct Files {
    TempDir directory{};
    Files() {
        write_file(directory / "old.yaml", old_text);
        write_file(directory / "same.yaml", same_text);
        write_file(directory / "new.yaml", new_text);
    }
    std::string operator()(const char* name) const { return directory / name; }
};

std::string record(const std::string& operation, const std::string& path, const std::string& more = "") {
    return R"({"seq":1,"generation":1,"time":"2026-01-01T00:00:00.000001Z","event":"request","decision":"refused","session":1,)"
           R"("request":1,"listener":"default","peer":{"pid":7,"uid":65534,"gid":65534,"user":"nobody","roles":[]},"call":"open",)"
           R"("operation":[")" +
           operation + R"("],"path":")" + path + R"(")" + more +
           R"(,"step":"decide","errno":13,"reason":"no rule allows it"})"
           "\n";
}

}  // namespace

TEST_CASE("policy diff: the status tells whether anything differs") {
    const Files files;
    const Outcome same = openerctl({"policy", "diff", files("old.yaml"), files("same.yaml")});
    CHECK(same.status == 0);
    CHECK(contains(same.out, "no difference\n"));
    CHECK(contains(same.out, "all paths (proved); all peers (proved)"));
    const Outcome other = openerctl({"policy", "diff", files("old.yaml"), files("new.yaml")});
    CHECK(other.status == 1);
    CHECK(contains(
        other.out,
        "+ every peer may newly write\n    example  /tmp/x\n    before   no rule allows it\n    after    "
        "allowed by rule \"tmp\" ("));
    CHECK(contains(
        other.out,
        "+ user nobody (uid 65534) may newly read, stat\n    example  /srv/www/.key\n    before   refused by "
        "rule \"keys\" ("));
    CHECK(contains(other.out, "2 gained\n"));
    write_file(files.directory / "wrong.yaml", "version: 2\n");
    CHECK(openerctl({"policy", "diff", files("old.yaml"), files("wrong.yaml")}).status == 3);
    CHECK(openerctl({"policy", "diff", files("wrong.yaml"), files("old.yaml")}).status == 3);
    CHECK(openerctl({"policy", "diff", files("old.yaml"), files("missing.yaml")}).status == 1);
    CHECK(openerctl({"policy", "diff", files("old.yaml")}).status == 2);
    CHECK(openerctl({"policy", "diff", "-", "-"}).status == 2);
    CHECK(
        openerctl({"--control", files("none.sock"), "policy", "diff", "running", files("old.yaml")}).status ==
        4);
    CHECK(openerctl({"policy", "diff", "-", files("same.yaml")}, old_text).status == 0);
}

TEST_CASE("policy diff --json: differences with examples, and how far they are proved") {
    const Files files;
    const Outcome outcome = openerctl({"policy", "diff", "--json", files("new.yaml"), files("old.yaml")});
    CHECK(outcome.status == 1);
    const auto found = nlohmann::json::parse(outcome.out);
    CHECK(found["relation"] == "narrower");
    REQUIRE(found["differences"].size() == 2);
    const auto& first = found["differences"][0];
    CHECK(first["kind"] == "lost");
    CHECK(first["every_peer"] == true);
    CHECK(first["operations"] == nlohmann::json{"write"});
    CHECK(first["example"]["path"] == "/tmp/x");
    CHECK(first["before"]["rule"] == "tmp");
    CHECK(first["after"].is_null());
    CHECK(found["proof"]["all_paths"] == true);
    CHECK(found["proof"]["all_peers"] == true);
}

TEST_CASE("policy diff running: the served policy is compared, not its edited file") {
    FDBROKER_SKIP_UNLESS(is_root(), "the opener is started by root");
    const TempDir directory;
    RunningOpener opener(directory, old_text);
    const Files files;
    const auto diff = [&](const std::string& file) {
        return openerctl({"--control", directory / "control.sock", "policy", "diff", "running", file});
    };
    CHECK(diff(files("same.yaml")).status == 0);
    write_file(opener.policy(), new_text);
    CHECK(diff(files("same.yaml")).status == 0);
    const Outcome edited = diff(opener.policy());
    CHECK(edited.status == 1);
    CHECK(contains(edited.out, "2 gained"));
    const Outcome why = openerctl({"--control", directory / "control.sock", "policy", "explain", "--as",
                                   "nobody", "--why-not", "write", "/srv/www/a"});
    CHECK(why.status == 1);
    CHECK(contains(why.out, "rule \"site\": allow: add write"));
}

TEST_CASE("policy explain --why-not: the edits that would allow it, with what else they open") {
    const Files files;
    const Outcome outcome = openerctl({"policy", "explain", "--policy", files("old.yaml"), "--as", "nobody",
                                       "--why-not", "write", "/srv/www/a"});
    CHECK(outcome.status == 1);
    CHECK(contains(
        outcome.out,
        "1. a new rule: roles: one of {users: [nobody]}, allow: [write], paths: [\"/srv/www/a\"]\n     "
        "opens nothing else\n"));
    CHECK(contains(
        outcome.out,
        "rule \"site\": allow: add write\n     opens also: write for user nobody (uid 65534), such as "
        "/srv/www/"));
    const auto whole =
        nlohmann::json::parse(openerctl({"policy", "explain", "--json", "--policy", files("old.yaml"), "--as",
                                         "nobody", "--why-not", "write", "/srv/www/a"})
                                  .out);
    CHECK(whole["why_not"].size() == 2);
    CHECK(whole["why_not"][0]["opens"].empty());
}

TEST_CASE("policy suggest: prints a policy that loads and passes its tests") {
    const Files files;
    write_file(files.directory / "audit.jsonl",
               record("read", "/srv/www/a.html") + record("read", "/srv/www/a.html") +
                   record("write", "/srv/[x]") + record("read", "/etc/shadow") +
                   record("read", "/denied", R"(,"rule":"no","at":"p:1")") + "no record\n");
    const Outcome outcome = openerctl({"policy", "suggest", files("audit.jsonl")});
    CHECK(outcome.status == 0);
    CHECK(contains(outcome.out, "      - \"/srv/www/a.html\"  # 2 requests\n"));
    CHECK(contains(outcome.out, "      - \"/srv/\\\\[x\\\\]\"  # 1 request\n"));
    CHECK(contains(outcome.out, "#   read /etc/shadow as nobody (1)\n"));
    CHECK(contains(outcome.out, "expect: refuse"));
    const Outcome checked = openerctl({"policy", "test", "-"}, outcome.out);
    CAPTURE(outcome.out);
    CAPTURE(checked.err);
    CHECK(checked.status == 0);
    CHECK(contains(checked.out, "4 tests, 0 failed"));
}

TEST_CASE("policy suggest --policy: prints a fragment that the policy can include") {
    const Files files;
    write_file(files.directory / "audit.jsonl",
               record("write", "/srv/www/a") + record("read", "/srv/www/x.key"));
    const Outcome outcome =
        openerctl({"policy", "suggest", "--policy", files("old.yaml"), "--unused", files("audit.jsonl")});
    CHECK(outcome.status == 0);
    CHECK(contains(outcome.out, "#   read /srv/www/x.key as nobody (1)\n"));
    CHECK(contains(outcome.out, "# Unused: rule \"site\" ("));
    write_file(files.directory / "more.yaml", outcome.out);
    write_file(files.directory / "whole.yaml", std::string(old_text).insert(11, "include: [more.yaml]\n"));
    const Outcome tested = openerctl({"policy", "test", files("whole.yaml")});
    CAPTURE(outcome.out);
    CAPTURE(tested.err);
    CHECK(tested.status == 0);
    CHECK(contains(tested.out, "2 tests, 0 failed"));
    CHECK(openerctl({"policy", "suggest", "--unused", files("audit.jsonl")}).status == 2);
    CHECK(openerctl({"policy", "suggest", "--include", "relative", files("audit.jsonl")}).status == 2);
    CHECK(openerctl({"policy", "suggest", files("none.jsonl")}).status == 1);
}

TEST_CASE("policy suggest: reads what worker run --learn writes") {
    const Files files;
    write_file(
        files.directory / "learned",
        R"({"decision":"refused","event":"request","operation":["read"],"path":"/opt/x","peer":{"uid":65534},"step":"decide","time":"2026-01-01T00:00:00Z"})"
        "\n");
    const auto found =
        nlohmann::json::parse(openerctl({"policy", "suggest", "--json", files("learned")}).out);
    REQUIRE(found["rules"].size() == 1);
    CHECK(found["rules"][0]["paths"][0]["pattern"] == "/opt/x");
    CHECK(found["rules"][0]["peers"][0]["uid"] == 65534);
}
