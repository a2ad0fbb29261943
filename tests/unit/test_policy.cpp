// SPDX-License-Identifier: MIT
// Operations, request paths and patterns.
#include <algorithm>
#include <climits>

#include "policy/matching/pattern.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

// Does the pattern, as that of an allow rule, match the path for the operation?
bool matches(const std::string& pattern, const char* path, Operation operation = Operation::read,
             const PeerIdentity& peer = alice()) {
    const Policy policy = load_rules(
        {"{name: one, allow: [" + std::string(to_string(operation)) + "], paths: ['" + pattern + "']}"});
    return decide(policy, {operation}, path, peer).has_value();
}

std::string pattern_error(std::string_view text) {
    const auto patterns = parse_pattern(text);
    return patterns ? "" : patterns.error();
}

PathError path_error(const std::string& text) {
    const auto path = RequestPath::parse(text);
    REQUIRE_FALSE(path.has_value());
    CHECK_FALSE(to_string(path.error()).empty());
    return path.error();
}

TEST_CASE("operations: each has one word, and the word means it") {
    for (unsigned index = 0; index < operation_count; ++index) {
        const auto operation = static_cast<Operation>(index);
        CHECK(operation_from_string(to_string(operation)) == operation);
    }
    CHECK_FALSE(operation_from_string("modify"));
    CHECK_FALSE(operation_from_string("Read"));
    CHECK_FALSE(operation_from_string(""));
}

TEST_CASE("operations: a set made from bits holds operations only") {
    CHECK(OperationSet::from_bits(0xffff) == OperationSet::all());
    CHECK(OperationSet::from_bits(OperationSet{Operation::stat}.bits()) == OperationSet{Operation::stat});
}

TEST_CASE("request path: canonical absolute paths are taken as they are") {
    for (const char* text : {"/", "/a", "/a/b", "/...", "/.a", "/a./..b", "/a b", "/\xff"}) {
        const auto path = RequestPath::parse(text);
        REQUIRE(path.has_value());
        CHECK(path->text() == text);
        CHECK(path->c_str() == text);
    }
}

TEST_CASE("request path: anything else is refused with what is wrong") {
    CHECK(path_error("") == PathError::empty);
    CHECK(path_error("a") == PathError::relative);
    CHECK(path_error("./a") == PathError::relative);
    CHECK(path_error("/.") == PathError::dot);
    CHECK(path_error("/..") == PathError::dot);
    CHECK(path_error("/a/./b") == PathError::dot);
    CHECK(path_error("/a/../b") == PathError::dot);
    CHECK(path_error("/a/..") == PathError::dot);
    CHECK(path_error("//") == PathError::double_slash);
    CHECK(path_error("//a") == PathError::double_slash);
    CHECK(path_error("/a//b") == PathError::double_slash);
    CHECK(path_error("/a/") == PathError::trailing_slash);
    CHECK(path_error("/a//") == PathError::double_slash);
    CHECK(path_error(std::string("/a\0b", 4)) == PathError::nul);
}

TEST_CASE("request path: lengths end where the kernel's do") {
    const std::string longest_name(NAME_MAX, 'a');
    CHECK(RequestPath::parse('/' + longest_name).has_value());
    CHECK(path_error('/' + longest_name + 'a') == PathError::too_long);
    std::string path;
    while (path.size() + 2 <= PATH_MAX - 1) path += "/a";
    CHECK(path.size() == PATH_MAX - 2);
    CHECK(RequestPath::parse(path).has_value());
    CHECK(RequestPath::parse(path + 'a').has_value());
    CHECK(path_error(path + "aa") == PathError::too_long);
}

TEST_CASE("pattern: a literal path matches itself and no neighbour") {
    CHECK(matches("/mbogo", "/mbogo"));
    for (const char* path : {"/", "/mbog", "/mbogos", "/Mbogo", "/mbogo/x", "/x/mbogo", "/mbog/o"})
        CHECK_FALSE(matches("/mbogo", path));
    CHECK(matches("/", "/"));
    CHECK_FALSE(matches("/", "/a"));
}

TEST_CASE("pattern: /dir/** is everything below, and the directory itself for stat and list only") {
    CHECK(matches("/srv/**", "/srv/a"));
    CHECK(matches("/srv/**", "/srv/a/b/.c"));
    CHECK_FALSE(matches("/srv/**", "/srv"));
    CHECK_FALSE(matches("/srv/**", "/srvx/a"));
    CHECK_FALSE(matches("/srv/**", "/sr/v"));
    CHECK(matches("/srv/**", "/srv", Operation::stat));
    CHECK(matches("/srv/**", "/srv", Operation::list));
    for (unsigned index = 0; index < operation_count; ++index) {
        const auto operation = static_cast<Operation>(index);
        if (operation == Operation::stat || operation == Operation::list) continue;
        CHECK_FALSE(matches("/srv/**", "/srv", operation));
    }
    CHECK(matches("/**", "/a"));
    CHECK_FALSE(matches("/**", "/"));
    CHECK(matches("/**", "/", Operation::list));
}

TEST_CASE("pattern: ** in the middle is any number of whole names, none included") {
    CHECK(matches("/a/**/b", "/a/b"));
    CHECK(matches("/a/**/b", "/a/x/b"));
    CHECK(matches("/a/**/b", "/a/x/y/b"));
    CHECK(matches("/a/**/b", "/a/b/b"));
    CHECK_FALSE(matches("/a/**/b", "/a/xb"));
    CHECK_FALSE(matches("/a/**/b", "/a/b/x"));
    CHECK(matches("/**/*.key", "/x.key"));
    CHECK(matches("/**/*.key", "/a/b/x.key"));
    CHECK_FALSE(matches("/**/*.key", "/a/x.key/y"));
    CHECK(matches("/**/a/**/a/**/a", "/a/a/a"));
    CHECK(matches("/**/a/**/a/**/a", "/x/a/y/a/a/z/a"));
    CHECK_FALSE(matches("/**/a/**/a/**/a", "/x/a/y/z/a"));
    CHECK(matches("/a/**/**/b", "/a/b"));
    CHECK(matches("/a/**/b/*/c", "/a/b/b/b/c"));
    CHECK(matches("/a/**/b/**", "/a/b/b"));
    CHECK(matches("/a/**/b/**", "/a/b", Operation::stat));
    CHECK_FALSE(matches("/a/**/b/**", "/a/b"));
}

TEST_CASE("pattern: * and ? stay inside a name and match dot-names") {
    CHECK(matches("/a/*", "/a/b"));
    CHECK(matches("/a/*", "/a/.b"));
    CHECK_FALSE(matches("/a/*", "/a"));
    CHECK_FALSE(matches("/a/*", "/a/b/c"));
    CHECK(matches("/*/b", "/a/b"));
    CHECK(matches("/a/x*z", "/a/xz"));
    CHECK(matches("/a/x*y*z", "/a/x.yy.zz"));
    CHECK_FALSE(matches("/a/x*y*z", "/a/x.z"));
    CHECK(matches("/a/*.tar.*", "/a/b.tar.tar.gz"));
    CHECK(matches("/a/?", "/a/b"));
    CHECK(matches("/a/?b", "/a/.b"));
    CHECK_FALSE(matches("/a/?", "/a/bb"));
    CHECK_FALSE(matches("/a/a?b", "/a/a/b"));
    CHECK(matches("/a/*\\*", "/a/b*"));
    CHECK_FALSE(matches("/a/*\\*", "/a/b"));
    // A question mark is one byte, not one character.
    CHECK_FALSE(matches("/a/?", "/a/\xc3\xa9"));
    CHECK(matches("/a/??", "/a/\xc3\xa9"));
}

TEST_CASE(
    "matcher: of many wildcards in one directory the first that fits decides, whatever each begins with") {
    const std::vector<std::string> names{"z*",    "item10-*", "item1-?", "item2-*", "itex*",  "item?*",
                                         "item?", "*-a",      "item10*", "item1-*", "item1*", "item*",
                                         "it*",   "i?",       "[i]*",    "i*",      "?",      "*"};
    std::vector<std::string> rules;
    for (std::size_t index = 0; index < names.size(); ++index)
        rules.push_back("{name: r" + std::to_string(index) + ", allow: [read], paths: ['/d/" + names[index] +
                        "']}");
    const Policy all = load_rules(rules);
    for (const char* path : {"/d/item1-a", "/d/item10-a", "/d/item1", "/d/i", "/d/z", "/d/itex", "/d/item2-b",
                             "/d/x", "/d/xyz", "/d/ib"}) {
        CAPTURE(path);
        const auto first =
            std::ranges::find_if(names, [&](const std::string& name) { return matches("/d/" + name, path); });
        REQUIRE(first != names.end());
        CHECK(verdict(all, {Operation::read}, path) == "allow r" + std::to_string(first - names.begin()));
    }
}

TEST_CASE("pattern: classes hold single bytes and ranges, and may be negated") {
    CHECK(matches("/[abc]", "/b"));
    CHECK_FALSE(matches("/[abc]", "/d"));
    CHECK_FALSE(matches("/[abc]", "/ab"));
    CHECK(matches("/[a-cx]", "/c"));
    CHECK(matches("/[a-cx]", "/x"));
    CHECK_FALSE(matches("/[a-c]", "/-"));
    CHECK(matches("/[a-]", "/-"));
    CHECK(matches("/[-a]", "/-"));
    CHECK(matches("/[!a-c]", "/d"));
    CHECK(matches("/[!a-c]", "/\xff"));
    CHECK_FALSE(matches("/[!a-c]", "/b"));
    CHECK_FALSE(matches("/a[!b]c", "/a/c"));
    CHECK(matches("/[\\]]", "/]"));
    CHECK(matches("/[\\!a]", "/!"));
    CHECK(matches("/[\\\\]", "/\\"));
    CHECK(matches("/[a!]", "/!"));
    CHECK(matches("/log.[0-9]*", "/log.10"));
}

TEST_CASE("pattern: braces are alternatives, and an escape is the byte itself") {
    CHECK(matches("/{a,b}/c", "/a/c"));
    CHECK(matches("/{a,b}/c", "/b/c"));
    CHECK_FALSE(matches("/{a,b}/c", "/ab/c"));
    CHECK_FALSE(matches("/{a,b}/c", "/{a,b}/c"));
    CHECK(matches("/x{,.bak}", "/x"));
    CHECK(matches("/x{,.bak}", "/x.bak"));
    CHECK(matches("/{*.jpg,*.png}", "/a.png"));
    CHECK(matches("/{a,b}{c,d}", "/bc"));
    CHECK(matches("/{[,],x}", "/,"));
    CHECK(matches("/{a\\,b,c}", "/a,b"));
    CHECK(matches("/\\{a\\}", "/{a}"));
    CHECK(matches("/\\*", "/*"));
    CHECK_FALSE(matches("/\\*", "/a"));
    CHECK(matches("/\\?\\[\\]\\\\", "/?[]\\"));
    CHECK(matches("/a,b", "/a,b"));
    CHECK(matches("/$x", "/$x"));
}

TEST_CASE("pattern: an escape of two digits is any byte that a name may hold") {
    CHECK(matches(R"(/caf\xe9)", "/caf\xe9"));
    CHECK(matches(R"(/\xFF\x41b)",
                  "/\xff"
                  "Ab"));
    CHECK(matches(R"(/{\xe9,b}*)", "/\xe9t\xe9"));
    CHECK(matches(R"(/\x2a\x5c\x7b)", "/*\\{"));
    CHECK_FALSE(matches(R"(/\x2a)", "/a"));
    CHECK(matches(R"(/[\xe0-\xef])", "/\xe9"));
    CHECK_FALSE(matches(R"(/[\xe0-\xef])", "/\xf0"));
    CHECK(matches(R"(/[!\x5d])", "/a"));
    CHECK_FALSE(matches(R"(/[!\x5d])", "/]"));
    CHECK(parse_pattern(R"(/a\xff/**)")->front().directory() == "/a\xff");
}

TEST_CASE("pattern: variables stand for the peer") {
    PeerIdentity peer = alice();
    peer.group = "staff";
    peer.gid = 50;
    CHECK(matches("/home/${user}/**", "/home/alice/x", Operation::read, peer));
    CHECK_FALSE(matches("/home/${user}/**", "/home/bob/x", Operation::read, peer));
    CHECK_FALSE(matches("/home/${user}", "/home/alicea", Operation::read, peer));
    CHECK_FALSE(matches("/home/${user}", "/home/alic", Operation::read, peer));
    CHECK_FALSE(matches("/home/${user}", "/home/${user}", Operation::read, peer));
    CHECK(matches("/run/user/${uid}", "/run/user/1000", Operation::read, peer));
    CHECK(matches("/g/${group}", "/g/staff", Operation::read, peer));
    CHECK(matches("/g/${gid}", "/g/50", Operation::read, peer));
    CHECK(matches("/spool/*-${user}.job", "/spool/7-alice.job", Operation::read, peer));
    CHECK(matches("/spool/{in,out}-${user}", "/spool/out-alice", Operation::read, peer));
    // A wildcard in a name is no wildcard.
    peer.user = "*";
    CHECK_FALSE(matches("/home/${user}", "/home/alice", Operation::read, peer));
}

TEST_CASE("pattern: a variable whose value is empty, has a slash or is a dot-name matches nothing") {
    PeerIdentity peer = alice();
    for (const char* user : {"", ".", "..", "a/b", "/"}) {
        peer.user = user;
        CHECK_FALSE(matches("/home/${user}", "/home/a", Operation::read, peer));
        CHECK_FALSE(matches("/home/x${user}", "/home/x", Operation::read, peer));
        CHECK_FALSE(matches("/home/x${user}", "/home/x.", Operation::read, peer));
        CHECK_FALSE(matches("/home/x${user}", "/home/x..", Operation::read, peer));
        CHECK_FALSE(matches("/home/*${user}", "/home/a", Operation::read, peer));
    }
}

TEST_CASE("pattern: an impossible pattern is an error that says what was expected") {
    const auto contains = [](std::string_view pattern, std::string_view expected) {
        const std::string error = pattern_error(pattern);
        CAPTURE(pattern);
        CAPTURE(error);
        CHECK(error.find(expected) != std::string::npos);
    };
    contains("", "absolute");
    contains("a/b", "absolute");
    contains("/a/", "trailing");
    contains("/a//b", "two slashes");
    contains("//", "two slashes");
    contains("/a/../b", "\"..\"");
    contains("/a/.", "\".\"");
    contains("/a/\\.", "\".\"");
    contains("/{.,a}", "\".\"");
    contains("/a**", "alone between slashes");
    contains("/**a", "alone between slashes");
    contains("/{**,a}", "alone between slashes");
    contains("/{a,*}*", "alone between slashes");
    contains("/a\\", "escapes");
    contains("/a\\/b", "escapes");
    contains(R"(/\x)", "two hexadecimal digits");
    contains(R"(/\xf)", "two hexadecimal digits");
    contains(R"(/\xfg)", "two hexadecimal digits");
    contains(R"(/[\xg0])", "two hexadecimal digits");
    contains(R"(/a\x2fb)", "no name holds");
    contains(R"(/a\x00)", "no name holds");
    contains(R"(/\x2e)", "\".\"");
    contains("/[a", "without its \"]\"");
    contains("/[a/b]", "without its \"]\"");
    contains("/[]", "without a byte");
    contains("/[!]", "without a byte");
    contains("/[^a]", "[!...]");
    contains("/[[:alpha:]]", "inside a class");
    contains("/[z-a]", "backwards");
    contains("/[\xc3\xa9]", "several bytes");
    contains("/a]", "without its \"[\"");
    contains("/{a,b", "without its \"}\"");
    contains("/{a/b,c}", "without its \"}\"");
    contains("/a}", "without its \"{\"");
    contains("/{a}", "at least two");
    contains("/{a,{b,c}}", "within braces");
    contains("/{a,}", "empty");
    contains("/${home}", "unknown variable");
    contains("/${user", "without its \"}\"");
    contains("/" + std::string(256, 'a'), "255");
    std::string path;
    while (path.size() < PATH_MAX) path += "/" + std::string(250, 'a');
    contains(path, "4095");
    std::string deep;
    for (unsigned level = 0; level <= max_pattern_components; ++level) deep += "/a";
    contains(deep, "more than 255 names");
    contains("/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "more than 256");
    contains("/{a,b}/{a,b}/{a,b}/{a,b}/{a,b}/{a,b}/{a,b}/{a,b}/{a,b}", "more than 256");
    CHECK(pattern_error("/{a,b}{a,b}{a,b}{a,b}/{a,b}/{a,b}/{a,b}/{a,b}").empty());
}

TEST_CASE("pattern: the directory it names ends before the first name that is not literal") {
    const auto directory = [](std::string_view text) {
        return parse_pattern(text).value().front().directory();
    };
    CHECK(directory("/") == "/");
    CHECK(directory("/a") == "/");
    CHECK(directory("/a/b") == "/a");
    CHECK(directory("/a/**") == "/a");
    CHECK(directory("/a/b/*") == "/a/b");
    CHECK(directory("/a/${user}/b") == "/a");
    CHECK(directory("/a/\\*/[b]") == "/a/*");
    CHECK(directory("/**") == "/");
    CHECK(parse_pattern("/{a,b}/*").value().back().directory() == "/b");
}

}  // namespace
}  // namespace fdbroker::policy
