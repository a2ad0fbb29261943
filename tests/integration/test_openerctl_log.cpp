// SPDX-License-Identifier: MIT
// `openerctl log`, and `openerctl why` for records that only the audit log still has.
#include <doctest/doctest.h>
#include <utime.h>

#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

Outcome openerctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments)});
}

std::string record(unsigned sequence, const std::string& day, const std::string& decision, unsigned uid,
                   const std::string& user, const std::string& path) {
    const std::string refused = decision == "refused"
                                    ? R"(,"step":"decide","errno":13,"reason":"no rule allows read")"
                                    : R"(,"rule":"site")";
    return R"({"seq":)" + std::to_string(sequence) + R"(,"generation":1,"time":")" + day +
           R"(T10:00:00.000001Z","event":"request","decision":")" + decision +
           R"(","session":1,"request":1,"listener":"default","peer":{"pid":7,"uid":)" + std::to_string(uid) +
           R"(,"gid":1,"user":")" + user + R"(","roles":[]},"call":"open","operation":["read"],"path":")" +
           path + "\"" + refused + "}\n";
}

// A log and what it was rotated to, by the opener and by logrotate, each written at its day.
struct Log {
    TempDir directory{};
    std::string file = directory / "audit.jsonl";

    Log() {
        write("audit.jsonl-20260101-1", 1, record(1, "2026-01-01", "allowed", 33, "www-data", "/srv/www/a"));
        write("audit.jsonl.2", 2, record(2, "2026-01-02", "refused", 33, "www-data", "/etc/shadow"));
        write("audit.jsonl.1", 3, record(3, "2026-01-03", "refused", 34, "backup", "/srv/www/b/c"));
        write("audit.jsonl", 4,
              record(4, "2026-01-04", "allowed", 34, "backup", "/srv/www/\\u00c3\\u00a9") +
                  R"({"seq":5,"generation":1,"time":"2026-01-04T11:00:00.000001Z","event":"stop"})"
                  "\n");
        write("audit.jsonl.bak", 4, record(9, "2026-01-09", "allowed", 34, "backup", "/elsewhere"));
    }
    void write(const std::string& name, int day, const std::string& text) const {
        write_file(directory / name, text);
        const utimbuf times{.actime = 0,
                            .modtime = 1767225600 + (day - 1) * 86400 + 43200};  // noon of the day
        REQUIRE(::utime((directory / name).c_str(), &times) == 0);
    }
    // The numbers of the records that are printed.
    std::string numbers(std::vector<std::string> more) const {
        more.insert(more.begin(), {"log", "--json", "--file", file});
        const Outcome outcome = openerctl(more);
        CAPTURE(outcome.err);
        CHECK(outcome.status == 0);
        std::string numbers;
        for (std::size_t begin = 0; begin < outcome.out.size();) {
            const std::size_t end = outcome.out.find('\n', begin);
            numbers += nlohmann::json::parse(outcome.out.substr(begin, end - begin))["seq"].dump();
            begin = end + 1;
        }
        return numbers;
    }
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("log: prints the records of all files, the oldest first") {
    const Log log;
    CHECK(log.numbers({}) == "12345");
    const Outcome text = openerctl({"log", "--file", log.file});
    CHECK(contains(text.out,
                   "2026-01-02T10:00:00.000001Z refused open read /etc/shadow pid 7 uid 33 (www-data): "
                   "no rule allows read (EACCES) [2]\n"));
    CHECK(contains(text.out, "allowed open read /srv/www/a pid 7 uid 33 (www-data) rule site [1]\n"));
    CHECK(contains(text.out, "2026-01-04T11:00:00.000001Z stop [5]\n"));
}

TEST_CASE("log: --user, --path, --rule, --refused and --since choose records, and hold together") {
    const Log log;
    CHECK(log.numbers({"--user", "backup"}) == "34");
    CHECK(log.numbers({"--user", "33"}) == "12");
    CHECK(log.numbers({"--refused"}) == "23");
    CHECK(log.numbers({"--rule", "site"}) == "14");
    CHECK(log.numbers({"--rule", "site", "--user", "backup"}) == "4");
    CHECK(log.numbers({"--rule", "sit"}) == "");
    CHECK(log.numbers({"--path", "/srv/www/*"}) == "14");
    CHECK(log.numbers({"--path", "/srv/**"}) == "134");
    CHECK(log.numbers({"--path", "/srv/www/\u00e9"}) == "4");
    CHECK(log.numbers({"--since", "2026-01-03"}) == "345");
    CHECK(log.numbers({"--since", "2026-01-04T10:30"}) == "5");
    CHECK(log.numbers({"--since", "1h"}).empty());
    CHECK(log.numbers({"--refused", "--user", "backup", "--since", "2026-01-03", "--path", "/srv/**"}) ==
          "3");
}

TEST_CASE("log: an option that means nothing is status 2, a log that cannot be read status 1") {
    const Log log;
    CHECK(openerctl({"log", "--file", log.file, "--since", "yesterday"}).status == 2);
    const Outcome glob = openerctl({"log", "--file", log.file, "--path", "relative/*"});
    CHECK(glob.status == 2);
    CHECK(contains(glob.err, "openerctl: --path: "));
    const Outcome missing = openerctl({"log", "--file", (log.directory / "none").string()});
    CHECK(missing.status == 1);
    CHECK(contains(missing.err, "none"));
    const Outcome nobody = openerctl({"--control", "/nonexistent", "log"});
    CHECK(nobody.status == 4);
    CHECK(contains(nobody.err, "--file"));
}

TEST_CASE("log: a file that logrotate has compressed is read") {
    const Log log;
    const Outcome gzip = run({.arguments = {"gzip", (log.directory / "audit.jsonl-20260101-1").string()}});
    FDBROKER_SKIP_UNLESS(gzip.status == 0, "needs gzip");
    CHECK(log.numbers({}) == "12345");
}

TEST_CASE("why, log: older records are read from the audit log and the files it was rotated to") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    RunningOpener opener(directory,
                         "version: 1\nrules: [{name: r, allow: [read], paths: [/nonexistent/x]}]\n");
    const std::string control = directory / "control.sock";
    TestPeer peer(opener.socket());
    const auto refused = peer.open("/etc/shadow");
    CHECK(refused.status == EACCES);
    const auto why = [&] { return openerctl({"--control", control, "why", std::to_string(refused.record)}); };
    CHECK(contains(why().out, "refused: open read /etc/shadow"));
    CHECK(openerctl({"--control", control, "reload"}).status == 0);
    const Outcome later = why();
    CHECK(later.status == 0);
    CHECK(contains(later.out, "refused: open read /etc/shadow"));
    CHECK(contains(openerctl({"--control", control, "log", "--refused"}).out, "/etc/shadow"));

    std::filesystem::rename(directory / "audit.jsonl", directory / "audit.jsonl.1");
    write_file(directory / "audit.jsonl", "");
    CHECK(contains(why().out, "refused: open read /etc/shadow"));
    std::filesystem::remove(directory / "audit.jsonl.1");
    const Outcome gone = why();
    CHECK(gone.status == 1);
    CHECK(
        contains(gone.err, "neither in the opener's memory nor in " + (directory / "audit.jsonl").string()));
    CHECK(opener.stop() == 0);
}
