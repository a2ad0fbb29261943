// SPDX-License-Identifier: MIT
// `openerctl policy check` and `policy test`, and what all of openerctl's commands have in common.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* tested_policy = R"(version: 1
roles:
  web: {users: [nobody]}
rules:
  - {name: site, roles: [web], allow: [read], paths: ["/srv/www/**"]}
tests:
  - {as: {user: nobody}, read: /srv/www/index.html, expect: allow, rule: site}
  - {as: {user: root}, read: /srv/www/index.html, expect: refuse}
)";

constexpr const char* failing_policy = R"(version: 1
rules:
  - {name: site, allow: [read], paths: ["/srv/www/**"]}
tests:
  - {as: {user: nobody}, read: /srv/www/index.html, expect: allow}
  - {as: {user: nobody}, write: /srv/www/index.html, expect: allow, rule: site}
)";

constexpr const char* wrong_policy =
    "version: 1\nrules:\n  - name: site\n    allow: [read]\n    path: [/srv]\n  - {name: two, allow: [reed], "
    "paths: [/srv]}\n";

Outcome openerctl(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {}) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments), .environment = std::move(environment)});
}

// As seen on a terminal: script(1) gives the program one, whose output is what it prints.
Outcome on_terminal(const std::string& arguments, std::map<std::string, std::string> environment = {}) {
    environment.emplace("TERM", "xterm");
    return run({.arguments = {"script", "-qec", openerctl_program() + " " + arguments, "/dev/null"},
                .environment = std::move(environment)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("openerctl: a policy is read from standard input and from a pipe, too") {
    for (const auto& [text, status] : {std::pair{tested_policy, 0}, {wrong_policy, 3}}) {
        const Outcome from_input =
            run({.arguments = {openerctl_program(), "policy", "check", "-"}, .input = text});
        CHECK(from_input.status == status);
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const proto::UniqueFd reader(ends[0]);
        proto::UniqueFd writer(ends[1]);
        REQUIRE(::write(writer.number(), text, std::strlen(text)) == static_cast<ssize_t>(std::strlen(text)));
        writer.reset();
        const Outcome from_pipe = run({.arguments = {openerctl_program(), "policy", "check", "/dev/fd/9"},
                                       .descriptors = {{9, reader.borrow()}}});
        CHECK(from_pipe.status == status);
        if (status == 0) continue;
        CHECK(contains(from_input.err, "<stdin>:5:5: rule \"site\": unknown key"));
        CHECK(contains(from_pipe.err, "/dev/fd/9:5:5: rule \"site\": unknown key"));
    }
    const Outcome tested =
        run({.arguments = {openerctl_program(), "policy", "test", "-"}, .input = failing_policy});
    CHECK(tested.status == 1);
    const Outcome explained = run({.arguments = {openerctl_program(), "policy", "explain", "--policy", "-",
                                                 "--as", "nobody", "write", "/srv/www/a"},
                                   .input = tested_policy});
    CHECK(explained.status == 1);
}

TEST_CASE("openerctl: wrong usage is status 2, and says what is wrong") {
    const struct {
        std::vector<std::string> arguments;
        const char* part;
    } cases[] = {
        {{}, "subcommand"},
        {{"policy"}, "subcommand"},
        {{"policy", "check"}, "FILE"},
        {{"policy", "test"}, "FILE"},
        {{"policy", "test", "/a", "/b"}, "/b"},
        {{"policy", "check", "-", "-"}, "standard input"},
        {{"policy", "check", "--format", "xml", "/a"}, "xml"},
        {{"policy", "test", "--no-such-option", "/a"}, "--no-such-option"},
        {{"no-such-command"}, "openerctl: no-such-command: there is no such command ("},
        {{"stauts"}, "openerctl: stauts: there is no such command (did you mean \"status\"?)"},
        {{"policy", "chekc", "/a"}, "openerctl: chekc: there is no such command (did you mean \"check\"?)"},
        {{"explain"}, "(did you mean \"policy explain\"?)"},
        {{"status", "--jsn"}, "openerctl: --jsn: there is no such option (did you mean \"--json\"?)"},
        {{"--contrl=/x", "status"},
         "openerctl: --contrl: there is no such option (did you mean \"--control\"?)"},
        {{"--control", "/x", "--jsno", "status"},
         "--jsno: there is no such option (did you mean \"--json\"?)"},
        {{"workers", "crew"}, "NAME requires N"},
        {{"workers", "crew", "2", "3"}, "3"},
    };
    for (const auto& one : cases) {
        const Outcome outcome = openerctl(one.arguments);
        CAPTURE(outcome.err);
        CHECK(outcome.status == 2);
        CHECK(contains(outcome.err, one.part));
        CHECK(outcome.err.starts_with("openerctl: "));
        CHECK(outcome.out.empty());
    }
}

TEST_CASE("openerctl: --json is taken before, between and after the words, and holds for errors") {
    const std::vector<std::vector<std::string>> cases{
        {"--json", "status", "--control", "/nonexistent/socket"},
        {"status", "--control", "/nonexistent/socket", "--json"},
        {"--control", "/nonexistent/socket", "status", "--json"},
        {"--control", "/nonexistent/socket", "metrics", "--json"},
        {"--control", "/nonexistent/socket", "watch", "--json"},
        {"--json", "policy", "explain", "--as", "nobody", "read", "/x", "--control", "/nonexistent/socket"},
    };
    for (const auto& arguments : cases) {
        const Outcome outcome = openerctl(arguments);
        CAPTURE(outcome.out);
        CHECK(outcome.status == 4);
        CHECK(outcome.err.empty());
        const auto answer = nlohmann::json::parse(outcome.out);
        CHECK(answer["status"] == 4);
        CHECK(contains(answer["error"], "/nonexistent/socket cannot be reached"));
    }
    const Outcome misspelt = openerctl({"stauts", "--json"});
    CHECK(misspelt.status == 2);
    CHECK(misspelt.err.empty());
    CHECK(contains(nlohmann::json::parse(misspelt.out)["error"], "did you mean \"status\"?"));
    const Outcome misused = openerctl({"policy", "--json", "explain", "--as", "nobody", "raed", "/x"});
    CHECK(misused.status == 2);
    CHECK(nlohmann::json::parse(misused.out)["status"] == 2);
}

TEST_CASE("openerctl: --help and --version succeed on standard output") {
    for (const auto& command : {"check", "explain", "schema", "test"}) {
        const Outcome help = openerctl({"policy", command, "--help"});
        CHECK(help.status == 0);
        CHECK(contains(help.out, "--json"));
        CHECK(help.err.empty());
    }
    CHECK(contains(openerctl({"--help"}).out, "policy"));
}

TEST_CASE("openerctl: an answer that cannot be written is status 1") {
    const TempDir directory;
    write_file(directory / "policy.yaml", tested_policy);
    const Outcome outcome = run({.arguments = {"sh", "-c",
                                               openerctl_program() + " policy check " +
                                                   (directory / "policy.yaml").string() + " >/dev/full"}});
    CHECK(outcome.status == 1);
    CHECK(outcome.err == "openerctl: standard output: No space left on device\n");
}

TEST_CASE("policy check: a valid policy is status 0, with the numbers of rules and tests") {
    const TempDir directory;
    write_file(directory / "policy.yaml", tested_policy);
    const std::string file = directory / "policy.yaml";
    const Outcome text = openerctl({"policy", "check", file});
    CHECK(text.status == 0);
    CHECK(text.out == file + ": valid, 1 rule, 2 tests passed\n");
    CHECK(text.err.empty());
    const Outcome json = openerctl({"policy", "check", "--json", file});
    CHECK(json.status == 0);
    CHECK(nlohmann::json::parse(json.out) == nlohmann::json{{"valid", true}, {"rules", 1}, {"tests", 2}});
}

TEST_CASE("policy check: every error is told at its place, and the status is 3") {
    const TempDir directory;
    write_file(directory / "policy.yaml", wrong_policy);
    const std::string file = directory / "policy.yaml";
    const Outcome text = openerctl({"policy", "check", file});
    CHECK(text.status == 3);
    CHECK(text.out.empty());
    CHECK(contains(text.err, file + ":5:5: "));
    CHECK(contains(text.err, "did you mean \"paths\"?"));
    CHECK(contains(text.err, file + ":6:25: "));
    CHECK_FALSE(contains(text.err, "^"));
    CHECK_FALSE(contains(text.err, "\x1b"));

    const Outcome json = openerctl({"policy", "check", file, "--json"});
    CHECK(json.status == 3);
    CHECK(json.err.empty());
    const auto answer = nlohmann::json::parse(json.out);
    CHECK(answer["valid"] == false);
    CHECK(answer["diagnostics"].back()["file"] == file);
    CHECK(answer["diagnostics"].back()["line"] == 6);
    CHECK(answer["diagnostics"].back()["column"] == 25);
    CHECK(answer["diagnostics"].back()["code"] == "unknown-word");
    CHECK(answer["diagnostics"].back()["severity"] == "error");
    CHECK(answer["diagnostics"].front()["code"] == "unknown-key");
    CHECK(contains(text.err, " [unknown-key]\n"));
    CHECK(contains(answer["diagnostics"].back()["message"], "reed"));
}

TEST_CASE(
    "policy check: a file that is not there is status 1, one that others may write status 3, both named") {
    const Outcome missing = openerctl({"policy", "check", "/nonexistent/policy.yaml"});
    CHECK(missing.status == 1);
    CHECK(contains(missing.err, "/nonexistent"));
    CHECK(contains(missing.err, "[unreadable-file]"));
    CHECK(openerctl({"policy", "test", "/nonexistent/policy.yaml"}).status == 1);
    const TempDir directory;
    CHECK(openerctl({"policy", "check", directory.path()}).status == 1);
    write_file(directory / "policy.yaml", tested_policy, {.mode = 0666});
    const Outcome writable = openerctl({"policy", "check", directory / "policy.yaml", "--json"});
    CHECK(writable.status == 3);
    const auto answer = nlohmann::json::parse(writable.out);
    CHECK(answer["diagnostics"][0]["line"].is_null());
    CHECK(contains(answer["diagnostics"][0]["message"], "chmod"));
    CHECK(answer["diagnostics"][0]["code"] == "untrusted-file");
}

TEST_CASE(
    "policy check: several files and standard input are checked at once; the worst decides the status") {
    const TempDir directory;
    const std::string good = directory / "good.yaml", wrong = directory / "wrong.yaml";
    write_file(good, tested_policy);
    write_file(wrong, wrong_policy);
    CHECK(openerctl({"policy", "check", good, good}).status == 0);
    CHECK(openerctl({"policy", "check", good, "/nonexistent"}).status == 1);
    const Outcome all = openerctl({"policy", "check", "/nonexistent", wrong, good});
    CHECK(all.status == 3);
    CHECK(contains(all.out, "good.yaml: valid"));
    CHECK(contains(all.err, "/nonexistent"));
    CHECK(contains(all.err, "wrong.yaml:5:5: "));

    const auto answer = nlohmann::json::parse(openerctl({"policy", "check", "--json", good, wrong}).out);
    CHECK(answer["valid"] == false);
    CHECK(answer["files"][0]["file"] == good);
    CHECK(answer["files"][0]["valid"] == true);
    CHECK(answer["files"][1]["diagnostics"][0]["code"] == "unknown-key");

    const std::string check = openerctl_program() + " policy check - < ";
    const Outcome valid = run({.arguments = {"sh", "-c", check + good}});
    CHECK(valid.status == 0);
    CHECK(valid.out == "-: valid, 1 rule, 2 tests passed\n");
    const Outcome invalid = run({.arguments = {"sh", "-c", check + wrong}});
    CHECK(invalid.status == 3);
    CHECK(contains(invalid.err, "<stdin>:5:5: "));
}

TEST_CASE("policy check: --format sarif and github tell code, severity, place and message") {
    const TempDir directory;
    const std::string file = directory / "a b.yaml";
    write_file(
        file,
        "version: 1\nrules:\n  - {name: gone, allow: [read], paths: [/nonexistent/x], \"\u00e9:\": 1}\n");
    const Outcome github = openerctl({"policy", "check", "--format", "github", file});
    CHECK(github.status == 3);
    CHECK(github.err.empty());
    CHECK(
        github.out.starts_with("::error file=" + file + ",line=3,col=58,title=unknown-key::rule \"gone\": "));

    const Outcome sarif = openerctl({"policy", "check", "--format", "sarif", file});
    CHECK(sarif.status == 3);
    const auto log = nlohmann::json::parse(sarif.out);
    CHECK(log["version"] == "2.1.0");
    const auto result = log["runs"][0]["results"][0];
    CHECK(result["ruleId"] == "unknown-key");
    CHECK(result["level"] == "error");
    const auto place = result["locations"][0]["physicalLocation"];
    CHECK(place["region"]["startLine"] == 3);
    CHECK(place["artifactLocation"]["uri"] == "file://" + (directory / "a%20b.yaml").string());

    write_file(file, "version: 1\nrules:\n  - {name: gone, allow: [read], paths: [/nonexistent/x/y]}\n");
    const Outcome unwise = openerctl({"policy", "check", "--lint", "--format", "github", file});
    CHECK(unwise.status == 1);
    CHECK(contains(unwise.out, "::warning file="));
    CHECK(contains(unwise.out, ",title=missing-directory::"));
    CHECK(openerctl({"policy", "check", "--format", "sarif", file}).status == 0);
}

TEST_CASE("policy schema: prints a JSON Schema of a policy, and of a fragment") {
    const auto policy = nlohmann::json::parse(openerctl({"policy", "schema"}).out);
    CHECK(policy["$schema"] == "http://json-schema.org/draft-07/schema#");
    CHECK(policy["required"][0] == "version");
    const auto fragment = nlohmann::json::parse(openerctl({"policy", "schema", "--fragment"}).out);
    CHECK_FALSE(fragment["properties"].contains("version"));
}

TEST_CASE("policy check: a policy whose own test fails is status 3") {
    const TempDir directory;
    write_file(directory / "policy.yaml", failing_policy);
    const Outcome outcome = openerctl({"policy", "check", directory / "policy.yaml"});
    CHECK(outcome.status == 3);
    CHECK(contains(outcome.err, "policy.yaml:6:5: test: "));
    CHECK_FALSE(contains(outcome.err, "policy.yaml:5:"));
}

TEST_CASE(
    "policy check: on a terminal the line is shown with a caret under the column, coloured unless NO_COLOR") {
    const TempDir directory;
    write_file(directory / "wrong.yaml", wrong_policy);
    const Outcome plain =
        on_terminal("policy check " + (directory / "wrong.yaml").string(), {{"NO_COLOR", "1"}});
    CHECK(plain.status == 3);
    CHECK(contains(plain.out, "\r\n        path: [/srv]\r\n        ^\r\n"));
    CHECK(contains(plain.out, "\r\n      - {name: two, allow: [reed], paths: [/srv]}\r\n" +
                                  std::string(28, ' ') + "^\r\n"));
    CHECK_FALSE(contains(plain.out, "\x1b"));

    const Outcome coloured = on_terminal("policy check " + (directory / "wrong.yaml").string());
    CHECK(contains(coloured.out, "\x1b[31m^\x1b[0m"));
    const Outcome dumb =
        on_terminal("policy check " + (directory / "wrong.yaml").string(), {{"TERM", "dumb"}});
    CHECK_FALSE(contains(dumb.out, "\x1b"));
}

TEST_CASE("policy check: the line of a fragment is shown, cut around the caret, without its control bytes") {
    const TempDir directory;
    make_directory(directory / "d");
    const std::string filler(300, 'x');
    write_file(directory / "d/part.yaml",
               "rules:\n  - {name: part, paths: [\"/" + filler + "\xc3\xa9\x7f" + filler + "\"]}\n");
    write_file(directory / "policy.yaml", "version: 1\ninclude: [\"d/*.yaml\"]\n");
    const Outcome outcome =
        on_terminal("policy check " + (directory / "policy.yaml").string(), {{"NO_COLOR", "1"}});
    CHECK(outcome.status == 3);
    CHECK_FALSE(contains(outcome.out, "\x7f"));
    const std::size_t message = outcome.out.find("control character");
    REQUIRE(message != std::string::npos);
    const std::size_t source = outcome.out.find('\n', message) + 1;
    const std::size_t caret_line = outcome.out.find('\n', source) + 1;
    const std::string shown = outcome.out.substr(source, caret_line - 2 - source);
    CHECK(shown.size() == 4 + 120 + 1);  // the é takes two bytes and one column
    const std::size_t caret = outcome.out.find('^', caret_line) - caret_line;
    CHECK(shown.substr(caret - 2, 6) == "x\xc3\xa9?xx");
}

TEST_CASE("policy check: --lint tells what is unwise, with the name of each finding, and the status is 1") {
    const TempDir directory;
    const std::string file = directory / "policy.yaml";
    const std::string rules = "version: 1\nrules:\n  - name: gone\n    allow: [read]\n    paths: [\"" +
                              (directory / "gone/*").string() + "\"]\n";
    write_file(file, rules);
    CHECK(openerctl({"policy", "check", file}).status == 0);
    const Outcome text = openerctl({"policy", "check", "--lint", file});
    CHECK(text.status == 1);
    CHECK(contains(text.err, file + ":3:5: rule \"gone\": "));
    CHECK(contains(text.err, "[missing-directory]"));
    CHECK(contains(text.out, "valid, 1 rule"));
    const auto answer = nlohmann::json::parse(openerctl({"policy", "check", "--lint", "--json", file}).out);
    REQUIRE(answer["findings"].size() == 1);
    CHECK(answer["findings"][0]["finding"] == "missing-directory");
    CHECK(answer["findings"][0]["code"] == "missing-directory");
    CHECK(answer["findings"][0]["severity"] == "warning");
    CHECK(answer["findings"][0]["rule"] == "gone");
    CHECK(answer["findings"][0]["location"]["line"] == 3);

    // A link is not the directory that the rule names.
    make_directory(directory / "real");
    std::filesystem::create_symlink("real", directory / "gone");
    CHECK(openerctl({"policy", "check", "--lint", file}).status == 1);
    std::filesystem::remove(directory / "gone");
    make_directory(directory / "gone");
    const Outcome wise = openerctl({"policy", "check", "--lint", file});
    CHECK(wise.status == 0);
    CHECK(wise.err.empty());

    std::filesystem::remove(directory / "gone");
    write_file(file, rules + "    lint: {allow: [missing-directory]}\n");
    CHECK(openerctl({"policy", "check", "--lint", file}).status == 0);
}

TEST_CASE("policy test: each test has a line, a failed one the reason, and the status is 1 then") {
    const TempDir directory;
    write_file(directory / "good.yaml", tested_policy);
    write_file(directory / "bad.yaml", failing_policy);
    const Outcome good = openerctl({"policy", "test", directory / "good.yaml"});
    CHECK(good.status == 0);
    CHECK(contains(good.out, "ok      read /srv/www/index.html as nobody: allowed by rule \"site\"\n"));
    CHECK(contains(good.out, "good.yaml: 2 tests, 0 failed\n"));

    const Outcome bad = openerctl({"policy", "test", directory / "bad.yaml"});
    CHECK(bad.status == 1);
    CHECK(bad.err.empty());
    CHECK(contains(bad.out, "ok      read /srv"));
    CHECK(contains(bad.out,
                   "bad.yaml:6: write /srv/www/index.html as nobody: refused: no rule allows write, "
                   "expected allow by rule \"site\"\n"));
    CHECK(contains(bad.out, "    would have been allowed, but for one thing:\n"));
    CHECK(contains(bad.out, "it does not allow write"));
    CHECK(contains(bad.out, "bad.yaml: 2 tests, 1 failed\n"));

    const auto answer =
        nlohmann::json::parse(openerctl({"policy", "test", "--json", directory / "bad.yaml"}).out);
    CHECK(answer["failed"] == 1);
    CHECK(answer["tests"][0]["passed"] == true);
    CHECK_FALSE(answer["tests"][0].contains("explanation"));
    CHECK(answer["tests"][1]["passed"] == false);
    CHECK(answer["tests"][1]["location"]["line"] == 6);
    CHECK(answer["tests"][1]["explanation"]["near_misses"][0]["rule"] == "site");
}

TEST_CASE("policy test: an invalid policy is status 3, one without tests is status 0") {
    const TempDir directory;
    write_file(directory / "wrong.yaml", wrong_policy);
    write_file(directory / "none.yaml",
               "version: 1\nrules:\n  - {name: all, allow: [read], paths: [/srv/a]}\n");
    const Outcome wrong = openerctl({"policy", "test", directory / "wrong.yaml"});
    CHECK(wrong.status == 3);
    CHECK(contains(wrong.err, "wrong.yaml:5:5: "));
    const Outcome none = openerctl({"policy", "test", directory / "none.yaml"});
    CHECK(none.status == 0);
    CHECK(contains(none.out, "0 tests, 0 failed"));
}

TEST_CASE("policy test: whoever is not root checks and tests a policy of his own") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory;
    write_file(directory / "policy.yaml", tested_policy, {.mode = 0600, .uid = some_user, .gid = some_user});
    run_as(some_user, [&] {
        CHECK(openerctl({"policy", "check", directory / "policy.yaml"}).status == 0);
        CHECK(openerctl({"policy", "test", directory / "policy.yaml"}).status == 0);
    });
    run_as(other_user, [&] {
        const Outcome outcome = openerctl({"policy", "check", directory / "policy.yaml"});
        CHECK(outcome.status == 1);
        CHECK(contains(outcome.err, "policy.yaml"));
    });
}
