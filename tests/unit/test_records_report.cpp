// SPDX-License-Identifier: MIT
// The aggregates of records, and the page that shows them.
#include <doctest/doctest.h>

#include <string>

#include "opener/audit/audit_chain.hpp"
#include "opener/records/report_page.hpp"
#include "opener/records/report_style.hpp"
#include "opener/records/summary.hpp"

using namespace fdbroker;
using namespace fdbroker::records;

namespace {

Record request(std::string_view path, Decision decision = Decision::refused, std::uint64_t count = 1,
               std::string_view time = "2026-11-22T18:00:00.000001Z") {
    Record record;
    record.time = time;
    record.event = "request";
    record.decision = decision;
    record.call = "open";
    record.operations = {policy::Operation::read};
    record.path = path;
    record.count = count;
    if (decision == Decision::refused) {
        record.step = "decide";
        record.errno_value = 13;
        record.reason = "no rule allows read";
    } else {
        record.rule = "site";
        record.at = "policy.yaml:7";
    }
    return record;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

std::size_t count_of(const std::string& text, std::string_view part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

std::string page_of(const Summary& summary) {
    return to_html({.files = {"audit.jsonl"}, .summary = &summary});
}

}  // namespace

TEST_CASE("report: text is text in HTML, whatever bytes it has") {
    CHECK(html("a<b>&\"c'") == "a&lt;b&gt;&amp;&quot;c&#39;");
    CHECK(html("</script>") == "&lt;/script&gt;");
    CHECK(html("\x01\x1b[2J\xff\n\r\t\x7f") == "\\x01\\x1b[2J\\xff\\x0a\\x0d\\x09\\x7f");
    CHECK(html("\xc3\xa9\xc2\x9b") == "\xc3\xa9\\xc2\\x9b");
    CHECK(html("a\xe2\x80\xae"
               "b\xe2\x81\xa6"
               "c\xe2\x80\xa6") == "a\\u202eb\\u2066c\xe2\x80\xa6");
    CHECK(html(std::string("\0", 1)) == "\\x00");
    CHECK(html("").empty());
}

TEST_CASE("report: no text of a record becomes markup, in any place of the page") {
    const std::string hostile =
        "\"'></td></script><script>alert(1)</script><img src=x onerror=alert(2)>\xff\x01";
    Summary summary;
    RecordedPeer peer;
    peer.uid = 7;
    peer.user = hostile;
    peer.listener = hostile;
    for (const Decision decision : {Decision::allowed, Decision::refused}) {
        Record record = request(hostile, decision);
        record.peer = &peer;
        record.rule = record.at = record.reason = record.step = record.new_path = record.call = hostile;
        summary.add(record);
    }
    Record event;
    event.event = event.cause = event.time = hostile;
    summary.add(event);
    const std::string text = to_html({.files = {hostile},
                                      .malformed = 1,
                                      .first_malformed = hostile,
                                      .policy = hostile,
                                      .unused = {{hostile, hostile}},
                                      .summary = &summary});
    CHECK(count_of(text, "<script") == 1);
    CHECK(count_of(text, "</script") == 1);
    CHECK(count_of(text, "<img") == 0);
    CHECK(count_of(text, "alert(1)") > 10);
    for (const char byte : text) CHECK((static_cast<unsigned char>(byte) >= 0x20 || byte == '\n'));
    CHECK(!contains(text, "\xff"));
    CHECK(!contains(text, "=\"\"'"));
}

TEST_CASE("report: the page loads nothing, and its policy allows its own style and script alone") {
    Summary summary;
    summary.add(request("/a"));
    const std::string text = page_of(summary);
    CHECK(contains(text, "default-src 'none'"));
    CHECK(!contains(text, "http:"));
    CHECK(!contains(text, "https:"));
    CHECK(!contains(text, " src="));
    CHECK(!contains(text, "href="));
    CHECK(!contains(text, "url("));
    CHECK(!contains(text, "@import"));
    CHECK(contains(text, std::string("<style>") + std::string(report_style) + "</style>"));
    CHECK(contains(text, std::string("<script>") + std::string(report_script) + "</script>"));
    CHECK(!contains(std::string(report_script), "innerHTML"));
    // As `openssl dgst -sha256 -binary | base64` prints the hash of nothing; the same code makes those of the page.
    CHECK(opener::to_hex(opener::hash_of("")).starts_with("e3b0c442"));
    CHECK(count_of(text, "'sha256-") == 2);
}

TEST_CASE("report: requests that are alike are one row, with how many they are") {
    Summary summary;
    summary.add(request("/etc/shadow", Decision::refused, 40));
    summary.add(request("/etc/shadow"));
    summary.add(request("/etc/passwd"));
    summary.add(request("/srv/a", Decision::allowed));
    CHECK(summary.total.refused.requests == 42);
    CHECK(summary.total.allowed.requests == 1);
    const auto refused = summary.refused.sorted();
    REQUIRE(refused.size() == 2);
    CHECK(refused[0].first->path == "/etc/shadow");
    CHECK(refused[0].second->requests == 41);
    CHECK(refused[0].first->reason == "no rule allows read (decide, EACCES)");
    const std::string text = page_of(summary);
    CHECK(contains(text, "<td class=\"n\" data-n=\"41\">41</td>"));
    CHECK(contains(text, "<td class=\"p\">/etc/shadow</td>"));
    CHECK(contains(text, "<td title=\"policy.yaml:7\">site</td>"));
}

TEST_CASE("report: rules that no record names are marked, where a policy was given") {
    Summary summary;
    summary.add(request("/srv/a", Decision::allowed));
    CHECK(!contains(page_of(summary), "<tr class=\"unused\">"));
    const std::string text =
        to_html({.policy = "policy.yaml", .unused = {{"mail", "policy.yaml:9"}}, .summary = &summary});
    CHECK(contains(text, "<tr class=\"unused\"><td>mail</td><td>policy.yaml:9</td>"));
}

TEST_CASE(
    "report: however many paths there are, the page and the memory stay small, and nothing goes uncounted") {
    Summary summary;
    constexpr unsigned paths = 4 * Summary::most_requests;
    for (unsigned i = 0; i < paths; ++i) {
        summary.add(request("/many/" + std::to_string(i % 50) + "/" + std::to_string(i)));
        if (i % 10 == 0) summary.add(request("/often"));
    }
    CHECK(summary.refused.size() <= 3 * Summary::most_requests);
    const auto sorted = summary.refused.sorted();
    CHECK(sorted.front().first->path == "/often");
    CHECK(sorted.front().second->requests == paths / 10);
    std::uint64_t told = summary.refused.others();
    for (const auto& [kind, tally] : sorted) told += tally->requests;
    CHECK(told == paths + paths / 10);
    const std::string text = page_of(summary);
    CHECK(count_of(text, "<tr>") < max_rows + 20);
    CHECK(contains(text, "/many/7/...</td>"));
}

TEST_CASE("report: requests over time are told in spans of one length, from minutes to days") {
    Timeline timeline;
    timeline.add("2026-11-22T18:00:10.1Z", Decision::allowed, 2);
    timeline.add("2026-11-22T18:00:59Z", Decision::refused, 3);
    timeline.add("2026-11-22T18:01:00Z", Decision::refused, 1);
    timeline.add("no time", Decision::refused, 1);
    CHECK(timeline.seconds() == 60);
    REQUIRE(timeline.spans().size() == 2);
    CHECK(timeline.spans().begin()->second.allowed == 2);
    CHECK(timeline.spans().begin()->second.refused == 3);
    timeline.add("2026-11-23T18:00:00Z", Decision::allowed, 1);
    CHECK(timeline.seconds() == 900);
    CHECK(timeline.spans().begin()->second.refused == 4);
    timeline.add("2036-11-23T18:00:00Z", Decision::allowed, 1);
    CHECK(timeline.spans().size() <= Timeline::max_spans);
    CHECK(timeline.seconds() % 86400 == 0);
    timeline.add("1970-01-01T00:00:00Z", Decision::allowed, 1);
    CHECK(timeline.spans().begin()->second.allowed == 1);
}

TEST_CASE("report: times are seconds since the epoch, or none") {
    CHECK(seconds_of("1970-01-01T00:00:00Z") == 0);
    CHECK(seconds_of("2026-11-22T18:00:00.012345Z") == 1795370400);
    CHECK(seconds_of("2024-02-29T23:59:60Z") == 1709251200);
    for (const char* time :
         {"", "2026-11-22", "2026-11-22 18:00:00", "2026-13-22T18:00:00", "2026-02-30T18:00:00",
          "2026-11-22T24:00:00", "2026-11-22T18:60:00", "2x26-11-22T18:00:00", "-026-11-22T18:00:00"}) {
        CAPTURE(time);
        CHECK(seconds_of(time) == -1);
    }
}
