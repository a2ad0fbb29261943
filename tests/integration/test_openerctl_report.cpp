// SPDX-License-Identifier: MIT
// `openerctl audit report`, and what a browser makes of the page.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

Outcome openerctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string record(const std::string& decision, const std::string& path) {
    const std::string rest = decision == "refused"
                                 ? R"(,"step":"decide","errno":13,"reason":"no rule allows read"})"
                                 : R"(,"rule":"site","at":"policy.yaml:2"})";
    return R"({"seq":1,"generation":1,"time":"2026-11-22T18:00:00.000001Z","event":"request","decision":")" +
           decision +
           R"(","session":1,"request":1,"listener":"default","peer":{"pid":7,"uid":33,"gid":33,"user":"www-data",)" +
           R"("group":"www-data","groups":[],"roles":[]},"call":"open","operation":["read"],"path":")" +
           path + "\"" + rest + "\n";
}

struct Log {
    TempDir directory{};
    std::string file = directory / "audit.jsonl";
    std::string page = directory / "report.html";
    std::string policy = directory / "policy.yaml";

    Log() {
        write_file(
            file, record("refused", "/etc/shadow") + record("refused", "/etc/shadow") +
                      record("allowed", "/srv/www/index.html") +
                      record("refused", R"(/</script><script>document.title='taken over'</script><img src=x )"
                                        R"(onerror=\"document.title='taken over'\">'\u00ff\u0001)"));
        write_file(policy,
                   "version: 1\nrules: [{name: site, allow: [read], paths: ['/srv/www/**']},\n"
                   "        {name: mail, allow: [read], paths: ['/var/mail/**']}]\n");
    }
    void write_page() const {
        const Outcome outcome = openerctl({"audit", "report", file});
        CHECK(outcome.status == 0);
        CHECK(outcome.err.empty());
        write_file(page, outcome.out);
    }
    // nullopt: there is no browser.
    std::optional<Outcome> browse(std::vector<std::string> options) const {
        for (const char* browser :
             {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"}) {
            if (!std::filesystem::exists(browser)) continue;
            std::vector<std::string> arguments{
                browser,         "--headless",     "--no-sandbox",
                "--disable-gpu", "--no-first-run", "--user-data-dir=" + (directory / "browser").string()};
            arguments.insert(arguments.end(), options.begin(), options.end());
            return run({.arguments = arguments, .environment = {{"HOME", directory.path().string()}}});
        }
        return std::nullopt;
    }
};

// How many rows of tables a filter has hidden.
std::size_t hidden_rows(const std::string& dom) {
    std::size_t count = 0;
    for (std::size_t at = dom.find("<tr hidden"); at != std::string::npos;
         at = dom.find("<tr hidden", at + 1))
        ++count;
    return count;
}

}  // namespace

TEST_CASE("audit report: a page for people, and the same as JSON") {
    const Log log;
    log.write_page();
    const std::string page = read_file(log.page);
    CHECK(page.starts_with("<!DOCTYPE html>"));
    CHECK(contains(page, "<td class=\"p\">/etc/shadow</td>"));
    CHECK(contains(page, "no rule allows read (decide, EACCES)"));
    CHECK(!contains(page, "<img"));
    const Outcome outcome = openerctl({"audit", "report", "--json", "--policy", log.policy, log.file});
    CHECK(outcome.status == 0);
    const json report = json::parse(outcome.out);
    CHECK(report["records"] == 4);
    CHECK(report["total"]["refused"]["requests"] == 3);
    CHECK(report["refused"]["kinds"][0]["path"] == "/etc/shadow");
    CHECK(report["refused"]["kinds"][0]["requests"] == 2);
    CHECK(report["unused_rules"] == json::parse(R"([{"rule":"mail","at":")" + log.policy + R"(:3"}])"));
    CHECK(contains(openerctl({"audit", "report", "--policy", log.policy, log.file}).out,
                   "<tr class=\"unused\"><td>mail</td>"));
    CHECK(openerctl({"audit", "report", log.directory / "absent"}).status == 1);
    CHECK(openerctl({"audit", "report"}).status == 2);
    write_file(log.policy, "rules: []\n");
    CHECK(openerctl({"audit", "report", "--policy", log.policy, log.file}).status == 3);
}

TEST_CASE("audit report: in a browser no name becomes code, and words filter the rows") {
    const Log log;
    log.write_page();
    const auto whole = log.browse({"--dump-dom", "file://" + log.page});
    FDBROKER_SKIP_UNLESS(whole.has_value(), "needs chromium");
    CHECK(whole->status == 0);
    CHECK(contains(whole->out, "<title>fdbroker: audit report</title>"));
    CHECK(!contains(whole->out, "<img"));
    // The script of the page has run.
    CHECK(contains(whole->out, "<div id=\"bar\">"));
    CHECK(hidden_rows(whole->out) == 0);
    const auto filtered = log.browse({"--dump-dom", "file://" + log.page + "#shadow%20www-data"});
    CHECK(hidden_rows(filtered->out) > 2);
    CHECK(contains(filtered->out, "1 of 2 shown"));
    CHECK(contains(filtered->out, "<tr><td class=\"n\" data-n=\"2\">2</td>"));
}

TEST_CASE("audit report: a browser draws the page") {
    const Log log;
    log.write_page();
    const std::string picture = log.directory / "page.png";
    const auto drawn = log.browse({"--window-size=900,900", "--screenshot=" + picture, "file://" + log.page});
    FDBROKER_SKIP_UNLESS(drawn.has_value(), "needs chromium");
    CHECK(drawn->status == 0);
    const std::string png = read_file(picture);
    CHECK(png.starts_with("\x89PNG"));
    // A single colour would take a few kilobytes.
    CHECK(png.size() > 20000);
}
