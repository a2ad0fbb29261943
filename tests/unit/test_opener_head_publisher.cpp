// SPDX-License-Identifier: MIT
// When the head of the audit log's chain is published, and what `status` is told of it.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/supervisor/head_publisher.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = directory / "audit.jsonl";
    SupervisorFacts facts{};
    std::vector<std::string> said{};
    HeadPublisher publisher{facts, [this](std::string_view event, std::string_view text) {
                                said.push_back(std::string(event) + ": " + std::string(text));
                            }};
    HeadPublisher::Clock::time_point start{};

    AuditLog log() const {
        Options options;
        options.audit_file = file;
        auto opened = AuditLog::open(options);
        REQUIRE(opened);
        return std::move(*opened);
    }
    std::string head(const AuditLog& log) const { return to_hex(log.written_head()); }
};

void write_record(AuditLog& log) {
    log.record("something", "");
    REQUIRE(log.drain());
}

}  // namespace

TEST_CASE("head publisher: a head is told within a minute, once, and none where nothing came") {
    Fixture fixture;
    AuditLog log = fixture.log();
    fixture.publisher.look(log, fixture.start);
    CHECK(!fixture.publisher.due());
    write_record(log);
    fixture.publisher.look(log, fixture.start);
    CHECK(fixture.said.empty());
    REQUIRE(fixture.publisher.due());
    CHECK(*fixture.publisher.due() == fixture.start + HeadPublisher::interval);
    CHECK(to_hex(fixture.facts.audit_head.load()) == fixture.head(log));
    write_record(log);
    const auto minute = fixture.start + HeadPublisher::interval;
    fixture.publisher.look(log, minute);
    REQUIRE(fixture.said.size() == 1);
    CHECK(fixture.said[0] == "audit-head: the head of the audit log is now: " + fixture.head(log));
    fixture.publisher.look(log, minute + HeadPublisher::interval);
    CHECK(fixture.said.size() == 1);
    CHECK(!fixture.publisher.due());
    write_record(log);
    fixture.publisher.look(log, minute + HeadPublisher::interval / 2);
    CHECK(*fixture.publisher.due() == minute + HeadPublisher::interval);
}

TEST_CASE(
    "head publisher: the heads of rotated files are told at once, and that of the log when it is asked for") {
    Fixture fixture;
    AuditLog log = fixture.log();
    log.rotate_by({.max_size = 250, .keep = 3});
    write_record(log);
    const std::string first = fixture.head(log);
    write_record(log);
    fixture.publisher.look(log, fixture.start);
    REQUIRE(fixture.said.size() == 1);
    CHECK(fixture.said[0] == "audit-head: the head of the audit log that was rotated away: " + first);
    fixture.publisher.publish(log, "before its file is opened anew", fixture.start);
    REQUIRE(fixture.said.size() == 2);
    CHECK(fixture.said[1].ends_with("before its file is opened anew: " + fixture.head(log)));
    fixture.publisher.publish(log, "again", fixture.start);
    CHECK(fixture.said.size() == 2);
}

TEST_CASE("head publisher: without an audit log there is nothing to tell") {
    Fixture fixture;
    Options options;
    options.audit = AuditDestination::none;
    auto log = AuditLog::open(options);
    REQUIRE(log);
    fixture.publisher.look(*log, fixture.start);
    fixture.publisher.publish(*log, "now", fixture.start);
    CHECK(fixture.said.empty());
    CHECK(fixture.facts.audit_head.load() == no_record);
}
