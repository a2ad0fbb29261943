// SPDX-License-Identifier: MIT
// load(): fragments, what of YAML is taken, and how errors are told.
#include <algorithm>

#include "policy/explain/run_test.hpp"
#include "policy/language/document.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

TEST_CASE("loader: a duplicate key is an error in every mapping") {
    CHECK(errors_of("version: 1\nversion: 1\n") ==
          Errors{"policy.yaml:2:1: duplicate key \"version\", the first is at line 1"});
    CHECK(
        errors_of(rules_text({"{name: r, allow: [read], paths: [/x], files: {max_size: 1, 'max_size': 2}}"}))
            .size() == 1);
}

TEST_CASE("loader: duplicates are found among few and among many") {
    for (const std::size_t others : {1U, 15U, 16U, 500U}) {
        CAPTURE(others);
        std::string paths = "/same";
        for (std::size_t index = 0; index < others; ++index) paths += ", /" + std::to_string(index);
        CHECK(errors_of(rules_text({"{name: r, allow: [read], paths: [" + paths + "]}"})).empty());
        const auto errors =
            errors_of(rules_text({"{name: r, allow: [read], paths: [" + paths + ", /same]}"}));
        REQUIRE(errors.size() == 1);
        CHECK(errors[0].ends_with("paths: \"/same\" twice"));
    }
}

TEST_CASE("loader: fragments bring roles, rules and tests, after those of the policy") {
    const FragmentReader fragments =
        [](const std::string& pattern) -> std::expected<std::vector<Source>, std::string> {
        if (pattern != "policy.d/*.yaml") return std::unexpected("no file matches \"" + pattern + '"');
        return std::vector<Source>{
            {"policy.d/a.yaml",
             "roles: {web: {users: [www-data]}}\nrules: [{name: a, roles: [main], allow: [read], paths: "
             "[/a]}]\n"},
            {"policy.d/b.yaml",
             "rules: [{name: b, roles: [web], allow: [read], paths: [/a]}]\n"
             "tests: [{as: {user: www-data}, read: /a, expect: allow, rule: b}]\n"},
        };
    };
    const std::string main = "version: 1\ninclude: ['policy.d/*.yaml']\nroles: {main: {users: [alice]}}\n";
    const Policy policy = load_text(main + "rules: [{name: first, deny: all, paths: [/no]}]\n", fragments);
    REQUIRE(policy.rules().size() == 3);
    CHECK(policy.rules()[0].name == "first");
    CHECK(policy.rules()[1].name == "a");
    CHECK(policy.rules()[1].location.file == "policy.d/a.yaml");
    CHECK(policy.rules()[2].location.line == 1);
    CHECK(tests(policy).size() == 1);
    CHECK(errors_of(main + "rules: [{name: b, deny: all, paths: [/no]}]\n", fragments) ==
          Errors{"policy.d/b.yaml:1:16: rule \"b\": this name is taken by the rule at policy.yaml:4"});
    CHECK(errors_of("version: 1\ninclude: ['x/*']\n", fragments) ==
          Errors{"policy.yaml:2:11: include: no file matches \"x/*\""});
    CHECK(errors_of("version: 1\ninclude: x\n", fragments).size() == 1);
}

TEST_CASE("loader: keys of the main policy are an error in a fragment") {
    const auto with = [](const std::string& text) {
        return errors_of("version: 1\ninclude: [x]\nroles: {r: {users: [0]}}\n",
                         [&](const std::string&) { return std::vector<Source>{{"x", text}}; });
    };
    for (const char* key : {"version: 1", "include: [y]", "defaults: {symlinks: follow}",
                            "limits: {connections: 1}", "audit: {refused: true}"}) {
        const Errors errors = with(key);
        REQUIRE(errors.size() == 1);
        check_begins(errors.front(), "x:1:1: unknown key");
    }
    CHECK(with("roles: {r: {users: [0]}}\n") ==
          Errors{"x:1:9: role \"r\" is already defined at policy.yaml:3"});
}

TEST_CASE("loader: a fragment that is empty or holds comments alone holds no rules") {
    for (const char* text : {"", "\n\n", "# nothing yet\n", "---\n", "\xef\xbb\xbf# nothing\n"}) {
        CHECK(errors_of("version: 1\ninclude: [x]\nrules: [{name: a, allow: [read], paths: [/a]}]\n",
                        [&](const std::string&) { return std::vector<Source>{{"x", text}}; }) == Errors{});
    }
}

TEST_CASE("loader: a no-break space outside quotes and comments is named") {
    const auto has = [](const Errors& errors, const std::string& part) {
        return std::ranges::any_of(errors, [&](const std::string& error) { return error.contains(part); });
    };
    const auto rules = [](const std::string& text) { return errors_of("version: 1\n" + text); };
    const std::string words = "a no-break space (U+00A0), which is text in YAML, expected a space";
    const std::string space = "\xc2\xa0";
    CHECK(has(rules("rules:\n" + space + " - {name: a, allow: [read], paths: [/a]}\n"),
              "policy.yaml:3:1: " + words));
    CHECK(has(rules("rules:\n  - name:" + space + "a\n    allow: [read]\n    paths: [/a]\n"),
              "policy.yaml:3:10: " + words));
    CHECK(has(rules("rules:\n  -" + space + "name: a\n    allow: [read]\n    paths: [/a]\n"),
              "policy.yaml:3:4: " + words));
    CHECK(has(rules("rules: [{name: a, allow: [read]," + space + "paths: [/a]}]\n"),
              "policy.yaml:2:33: " + words));
    const std::string good = "rules: [{name: a, allow: [read], paths: [\"/a" + space + "b\", '" + space +
                             "/c', /d" + space + "e]}] #" + space + "x\n";
    CHECK_FALSE(has(rules(good), words));
}

TEST_CASE("loader: all errors of all files come at once, in the order of files and lines") {
    const Errors errors = errors_of(
        "version: 1\ninclude: [x]\nrules:\n"
        "  - {name: a, roles: [r], allow: [raed], paths: [x]}\n"
        "  - {name: b, alow: [read], paths: [/x]}\n"
        "limits: {connections: x}\n"
        "roles: {s: {users: [carol]}}\n",
        [](const std::string&) {
            return std::vector<Source>{{"x1", "rules: [{name: c, allow: [read]}]\n{"},
                                       {"x2", "rules: [{name: d, allow: [read]}]\n"}};
        });
    std::vector<std::string> places;
    for (const std::string& error : errors) places.push_back(error.substr(0, error.find(' ')));
    CHECK(places == std::vector<std::string>{
                        "policy.yaml:4:23:", "policy.yaml:4:35:", "policy.yaml:4:50:", "policy.yaml:5:15:",
                        "policy.yaml:6:23:", "policy.yaml:7:21:", "x1:2:1:", "x2:1:9:"});
}

TEST_CASE("loader: a file of errors alone is told up to a bound") {
    std::string text = "version: 1\n";
    for (unsigned key = 0; key < 12'000; ++key) text += "k" + std::to_string(key) + ": 1\n";
    const Errors errors = errors_of(text);
    REQUIRE(errors.size() == 10'001);
    CHECK(errors.back() == "policy.yaml: 2000 more errors");
}

TEST_CASE("loader: YAML beyond plain data is an error") {
    const auto one = [](const std::string& text, std::string_view expected) {
        const Errors errors = errors_of(text);
        CAPTURE(text);
        REQUIRE_FALSE(errors.empty());
        check_begins(errors.front(), expected);
    };
    one("version: &a 1", "policy.yaml:1:10: an anchor");
    one("version: 1\nrules: &a []", "policy.yaml:2:8: an anchor");
    one("version: 1\nroles: {a: &x {users: [0]}, b: *x}", "policy.yaml:2:12: an anchor");
    one("version: 1\nroles: {a: &x {users: [0]}, b: *x}", "policy.yaml:2:12: an anchor");
    one("version: !!int 1", "policy.yaml:1:10: a tag");
    one("version: ! 1", "policy.yaml:1:10: a tag");
    one("version: !<x> 1", "policy.yaml:1:10: a tag");
    one("version: 1\nrules: !!seq []", "policy.yaml:2:8: a tag");
    one("!a {version: 1}", "policy.yaml:1:1: a tag");
    one("version: 1\nlimits: !a", "policy.yaml:2:9: a tag");
    one("version: 1\n<<: {rules: []}", "policy.yaml:2:1: unknown key \"<<\"");
    one("version: 1\n? [a]\n: b", "policy.yaml:2:3: a key that is not a word");
    one("version: 1\n~: b", "policy.yaml:2:1: a key that is not a word");
    one("version: 1\n---\nversion: 1", "policy.yaml:2:1: a second document");
    one("version: 1\n...\n---\n", "policy.yaml:3:1: a second document");
    one(",", "policy.yaml:1:1: a");
    one("%YAML 1.2\n---\nversion: 1", "policy.yaml:1:1: a YAML directive");
    one("# x\n %FOO\n---\nversion: 1", "policy.yaml:2:2: a YAML directive");
    one("[version, 1]", "policy.yaml:1:1: a policy: a list, expected keys with values");
    one("version: 1\nrules: [", "policy.yaml:2:1: not valid YAML");
    one("version: 1\nrules: \"x\n", "policy.yaml:2:8: a quote that is not closed");
    one("version: 1\nrules: 'it''s\n\n", "policy.yaml:2:8: a quote that is not closed");
    one("version: 1\nrules: \"a\\\"\n", "policy.yaml:2:8: a quote that is not closed");
}

TEST_CASE("loader: an alias of an anchor that grows without end is refused, not followed") {
    const Errors errors = errors_of("version: 1\nrules: &a [*a]\n");
    REQUIRE(errors.size() >= 2);
    CHECK(errors[1].find("an alias") != std::string::npos);
}

TEST_CASE("loader: bytes that are not text are refused before yaml-cpp sees them") {
    const auto one = [](const std::string& text) { return errors_of(text).at(0); };
    CHECK(one(std::string("version: 1\n\0", 12)) == "policy.yaml:2:1: a NUL byte, expected text");
    CHECK(one("version: \x1b[0m1") == "policy.yaml:1:10: a control character (0x1b), expected text");
    CHECK(one("version: 1\x7f") == "policy.yaml:1:11: a control character (0x7f), expected text");
    for (const char* bytes :
         {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe\xff"})
        CHECK(one("# ab" + std::string(bytes)) ==
              "policy.yaml:1:5: bytes that are not valid UTF-8, expected text");
    CHECK(errors_of("# \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf\nversion: 1\n")
              .empty());
    CHECK(errors_of("\xef\xbb\xbfversion: 1\n").empty());
    CHECK(errors_of("version: 1\r\nlimits: {connections: 5}\r\n").empty());
}

TEST_CASE("loader: depth and size are bounded") {
    // 16 levels parse; what they hold is wrong in other ways.
    CHECK(errors_of("version: 1\nlimits: " + std::string(15, '[') + std::string(15, ']'))
              .front()
              .find("deep") == std::string::npos);
    CHECK(errors_of("version: 1\nlimits: " + std::string(16, '[') + std::string(16, ']')) ==
          Errors{"policy.yaml:2:24: nested more than 16 deep"});
    CHECK(errors_of(std::string(100'000, '[')).size() == 1);
    CHECK(errors_of("version: 1\n" + std::string(max_document_bytes, '#')) ==
          Errors{"policy.yaml: more than 32 MiB, with the files before it"});
    CHECK(errors_of("version: 1\ninclude: [a]\n", [](const std::string&) {
              return std::vector<Source>{{"a", std::string(max_document_bytes - 20, '#')},
                                         {"b", "rules: []"}};
          }).size() == 2);
}

TEST_CASE("loader: bytes that do not print are shown escaped in messages") {
    CHECK(errors_of("version: 1\n\"a\\e[31m\\n\": 1\n").front().find("unknown key \"a\\x1b[31m\\x0a\"") !=
          std::string::npos);
}

}  // namespace
}  // namespace fdbroker::policy
