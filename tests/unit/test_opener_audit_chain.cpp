// SPDX-License-Identifier: MIT
// The chain of hashes: what the supervisor appends to each record, over files, starts and crashes.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/audit/audit_log.hpp"
#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_trail.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace fdbroker::test;

namespace {

struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = directory / "audit.jsonl";

    AuditLog log() const {
        Options options;
        options.audit_file = file;
        auto opened = AuditLog::open(options);
        REQUIRE(opened);
        return std::move(*opened);
    }
};

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = text.find('\n', begin) + 1;
        lines.push_back(text.substr(begin, end - begin));
        begin = end;
    }
    return lines;
}

RecordHash previous_of_line(const std::string& line) {
    const auto previous = previous_of(std::string_view(line).substr(0, line.size() - 1));
    REQUIRE(previous);
    return *previous;
}

// From the hash that the first line bears to that of the last.
RecordHash check_chain(const std::string& text, RecordHash head) {
    for (const std::string& line : lines_of(text)) {
        CHECK(to_hex(previous_of_line(line)) == to_hex(head));
        head = hash_of(line);
    }
    return head;
}

}  // namespace

TEST_CASE("audit chain: hashes are SHA-256 and come back from their digits") {
    // FIPS 180-4, the example of one block.
    const std::string digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    CHECK(to_hex(hash_of("abc")) == digits);
    CHECK(hash_from_hex(digits) == hash_of("abc"));
    CHECK(hash_from_hex("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") ==
          hash_of("abc"));
    CHECK(!hash_from_hex(digits.substr(1)));
    CHECK(!hash_from_hex(digits + "0"));
    CHECK(!hash_from_hex("g" + digits.substr(1)));
    CHECK(!hash_from_hex(""));
    RunningHash running;
    running.add("a");
    CHECK(running.hash() == hash_of("a"));
    running.add("bc");
    CHECK(running.hash() == hash_of("abc"));
}

TEST_CASE("audit chain: a line bears the hash of the one before, the first one zeros") {
    AuditChain chain;
    std::string out;
    chain.append(out, "{\"seq\":1}\n");
    chain.append(out, "{\"seq\":2}\n");
    const auto lines = lines_of(out);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == "{\"seq\":1,\"previous_sha256\":\"" + std::string(64, '0') + "\"}\n");
    CHECK(lines[0].size() == 10 + chain_length - 1);
    CHECK(lines[1] == "{\"seq\":2,\"previous_sha256\":\"" + to_hex(hash_of(lines[0])) + "\"}\n");
    CHECK(chain.head() == hash_of(lines[1]));
}

TEST_CASE("audit chain: only what ends as a chained line is one") {
    const std::string hash(64, 'a');
    const std::string end = ",\"previous_sha256\":\"" + hash + "\"}";
    CHECK(previous_of("{\"seq\":1" + end) == hash_from_hex(hash));
    CHECK(previous_of(end) == hash_from_hex(hash));
    for (const std::string& line :
         {std::string(), end.substr(1), "{\"seq\":1" + end + " ", "{\"seq\":1" + end + "\n",
          "{\"a\":1}" + std::string(100, ' '), "{\"x\":\"" + end.substr(1),
          "{,\"previous_sha256\":\"" + std::string(63, 'a') + "x\"}",
          "{,\"previous_sha257\":\"" + hash + "\"}", "{,\"previous_sha256\": " + hash + "\"}"}) {
        CAPTURE(line);
        CHECK(!previous_of(line));
    }
}

TEST_CASE("audit chain: the head of a log is its last record, with what a crash has left behind it") {
    std::string log;
    AuditChain chain;
    CHECK(head_of("") == no_record);
    CHECK(head_of("{\"old\":1}\n{\"old\":2}\n") == hash_of("{\"old\":2}\n"));
    chain.append(log, "{\"seq\":1}\n");
    CHECK(head_of(log) == chain.head());
    const std::size_t last = log.size();
    chain.append(log, "{\"seq\":2}\n");
    CHECK(head_of(log) == chain.head());
    CHECK(head_of(log.substr(3)) == chain.head());
    log += "{\"seq\":3,\"ha\n{\n";
    CHECK(head_of(log) == hash_of(log.substr(last)));
    CHECK(head_of("\n") == hash_of("\n"));
}

TEST_CASE("audit log: the chain goes on over generations, rotations and openers") {
    const Fixture fixture;
    RecordHash head = no_record;
    {
        auto ring = AuditRing::create();
        REQUIRE(ring);
        AuditLog log = fixture.log();
        log.rotate_by({.max_size = 700, .keep = 9});
        log.begin(1, &*ring);
        EventLoop loop = EventLoop::create().value();
        AuditTrail trail(&*ring, 1, "", loop);
        for (int i = 0; i < 10; ++i) trail.event({.event = "something", .cause = "with words"});
        CHECK(log.drain());
        log.end(1, "was killed");
        log.record("stop", "");
        CHECK(log.finish());
        const auto closed = log.take_closed();
        std::vector<RecordHash> heads;
        for (unsigned number = 9; number > 0; --number) {
            const std::string rotated = fixture.file + "." + std::to_string(number);
            if (!std::filesystem::exists(rotated)) continue;
            head = check_chain(read_file(rotated), head);
            heads.push_back(head);
        }
        CHECK(heads.size() >= 2);
        CHECK(closed == heads);
        CHECK(log.take_closed().empty());
        head = check_chain(read_file(fixture.file), head);
        CHECK(log.written_head() == head);
    }
    const std::string first = read_file(fixture.file);
    {
        AuditLog log = fixture.log();
        CHECK(log.written_head() == head);
        log.record("start", "");
        CHECK(log.finish());
        const std::string added = read_file(fixture.file).substr(first.size());
        head = check_chain(added, head);
    }
    // The opener ended between a rotation and the first record of the new file.
    std::filesystem::rename(fixture.file, fixture.file + ".1");
    AuditLog log = fixture.log();
    log.record("start", "");
    CHECK(log.finish());
    check_chain(read_file(fixture.file), head);
}

TEST_CASE("audit log: half a line that a crash left is vouched for by the record that comes next") {
    const Fixture fixture;
    {
        AuditLog log = fixture.log();
        log.record("start", "");
        log.record("something", "");
        CHECK(log.finish());
    }
    const std::string whole = read_file(fixture.file);
    const std::string torn = whole + R"({"seq":3,"generation":1,"ti)";
    write_file(fixture.file, torn);
    AuditLog log = fixture.log();
    log.record("start", "");
    CHECK(log.finish());
    const auto lines = lines_of(read_file(fixture.file));
    REQUIRE(lines.size() == 4);
    CHECK(lines[0] + lines[1] == whole);
    CHECK(lines[2] == torn.substr(whole.size()) + "\n");
    CHECK(previous_of_line(lines[3]) == hash_of(lines[1] + lines[2]));
}

TEST_CASE("audit log: an opener that takes the place of another goes on where that one was, written or not") {
    const Fixture fixture;
    AuditLog::Position position;
    {
        AuditLog log = fixture.log();
        log.record("start", "");
        CHECK(log.finish());
        log.record("not written", "");
        position = log.position();
        CHECK(log.written_head() == hash_of(read_file(fixture.file)));
        CHECK(position.head != log.written_head());
    }
    AuditLog log = fixture.log();
    log.continue_from(position);
    CHECK(log.written_head() == hash_of(read_file(fixture.file)));
    log.record("next", "");
    CHECK(log.finish());
    CHECK(check_chain(read_file(fixture.file), no_record) == log.written_head());
    CHECK(lines_of(read_file(fixture.file)).size() == 3);
}

TEST_CASE("audit log: a generation cannot forge the hash in the chain") {
    const Fixture fixture;
    auto ring = AuditRing::create();
    REQUIRE(ring);
    AuditLog log = fixture.log();
    log.begin(1, &*ring);
    std::string forged;
    write_line_beginning(forged, 1, 1);
    forged += "\"event\":\"x\",\"previous_sha256\":\"" + std::string(64, 'a') + "\"}\n";
    REQUIRE(ring->append(forged));
    EventLoop loop = EventLoop::create().value();
    AuditTrail(&*ring, 1, "", loop).event({.event = "next"});
    CHECK(log.drain());
    check_chain(read_file(fixture.file), no_record);
}
