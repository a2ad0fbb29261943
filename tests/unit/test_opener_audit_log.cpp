// SPDX-License-Identifier: MIT
// The supervisor's side of the audit log: what it takes from a generation, and what becomes of it in a file or a stream.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/audit/audit_log.hpp"
#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_sink.hpp"
#include "opener/audit/audit_trail.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace fdbroker::test;
using nlohmann::json;

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
    std::vector<json> records() const {
        std::vector<json> all;
        std::istringstream lines(read_file(file));
        for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
        return all;
    }
};

// In a child: files of this process grow to this size and no further, as on a disk that is full.
void limit_files(rlim_t size) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{size, RLIM_INFINITY};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

AuditRing make_ring() {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    return std::move(*ring);
}

std::string line_of(char letter, std::size_t size) {
    return std::string(size - 1, letter) + '\n';
}

std::string line_beginning(std::uint64_t sequence, std::uint32_t generation) {
    std::string beginning;
    write_line_beginning(beginning, sequence, generation);
    return beginning;
}

// Records of two logs, the first of which wrote 1 and 2, kept 3 to 6 and handed over.
void check_handed_over(const std::vector<json>& records) {
    std::map<std::uint64_t, json> numbered;
    for (const json& record : records) {
        CHECK(!numbered.contains(record["seq"].get<std::uint64_t>()));
        numbered[record["seq"].get<std::uint64_t>()] = record;
    }
    CHECK(numbered[1]["event"] == "before");
    CHECK(numbered[2]["event"] == "late");
    CHECK(numbered[3]["event"] == "later");
    const json& end = numbered[6];
    CHECK(end["generation"] == 1);
    if (numbered.contains(4)) {
        CHECK(end["event"] == "foul");
        CHECK(!end.contains("unused"));
        CHECK(end["bytes"] > 0);
    } else {
        CHECK(end["unused"] == json::array({4, 5}));
        CHECK((end["event"] == "finished" || end["event"] == "crash" || end["event"] == "foul"));
    }
    CHECK(numbered[7]["event"] == "start");
    CHECK(numbered[8]["event"] == "next");
    CHECK(numbered[9]["event"] == "last");
}

}  // namespace

TEST_CASE("audit log: generations go on counting, also after one that died between a record and its number") {
    const Fixture fixture;
    AuditRing one = make_ring(), two = make_ring();
    AuditLog log = fixture.log();
    log.begin(1, &one);
    EventLoop loop = EventLoop::create().value();
    AuditTrail(&one, 1, "", loop).event({.event = "first"});
    REQUIRE(one.append(line_beginning(2, 1) + "\"event\":\"second\"}\n"));
    log.end(1, "was killed");
    log.begin(2, &two);
    CHECK(two.next_sequence() == 4);
    AuditTrail(&two, 2, "0123456789abcdef0123", loop).event({.event = "fourth"});
    log.end(2, "");
    log.record("fifth", "in words");
    CHECK(log.drain());
    const auto records = fixture.records();
    REQUIRE(records.size() == 5);
    for (std::size_t i = 0; i < 5; ++i) CHECK(records[i]["seq"] == i + 1);
    CHECK(records[2]["event"] == "crash");
    CHECK(records[2]["cause"] == "was killed");
    CHECK(records[2]["generation"] == 1);
    CHECK(records[3]["policy"] == "0123456789abcdef");
    CHECK(records[4]["generation"] == 2);
    CHECK(records[4]["cause"] == "in words");
}

TEST_CASE(
    "audit log: one that has handed over has numbers of its own, and those that it leaves are on record") {
    const Fixture fixture;
    AuditRing one = make_ring(), two = make_ring();
    AuditLog log = fixture.log();
    log.begin(1, &one);
    EventLoop loop = EventLoop::create().value();
    AuditTrail first(&one, 1, "", loop);
    first.event({.event = "before"});
    // Not taken yet: it is, before the numbers are told.
    CHECK(log.hand_over(4) == 4);
    first.continue_with(4);
    log.begin(2, &two);
    AuditTrail second(&two, 2, "", loop);
    second.event({.event = "start"});
    first.event({.event = "late"});
    CHECK(log.drain());
    second.event({.event = "next"});
    first.event({.event = "later"});
    CHECK(log.drain());
    CHECK(!log.is_corrupt(1));
    SUBCASE("as it should") {
        log.end(1, "");
    }
    SUBCASE("killed") {
        log.end(1, "was killed");
    }
    SUBCASE("after it put in too many") {
        first.event({.event = "late"});
        first.event({.event = "late"});
        REQUIRE(one.append(line_beginning(6, 1) + "\"event\":\"too late\"}\n"));
        CHECK(log.drain());
        CHECK(log.is_corrupt(1));
        CHECK(!log.is_corrupt(2));
        log.end(1, "was killed");
    }
    SUBCASE("after putting in a number that belongs to the successor") {
        REQUIRE(one.append(line_beginning(9, 1) + "\"event\":\"late\"}\n"));
        CHECK(log.drain());
        CHECK(log.is_corrupt(1));
        log.end(1, "was killed");
    }
    second.event({.event = "last"});
    CHECK(log.drain());
    check_handed_over(fixture.records());
}

TEST_CASE("audit log: no generation is given more late numbers than may come of what helpers do") {
    const Fixture fixture;
    AuditRing one = make_ring(), two = make_ring();
    AuditLog log = fixture.log();
    log.begin(1, &one);
    CHECK(log.hand_over(1'000'000'000) == AuditLog::max_late_records);
    log.begin(2, &two);
    CHECK(two.next_sequence() == AuditLog::max_late_records + 2);
}

TEST_CASE("audit log: a record of another generation, or no record at all, is reported and dropped") {
    const std::string good = line_beginning(1, 1) + "\"event\":\"good\"}\n";
    for (const std::string& bad :
         {line_beginning(3, 1) + "\"event\":\"early\"}\n", line_beginning(1, 1) + "\"event\":\"again\"}\n",
          line_beginning(2, 7) + "\"event\":\"another's\"}\n", line_beginning(2, 1) + "\"event\":\"half\"",
          std::string(5000, '\0'), std::string("\n"), std::string("{}\n"),
          line_beginning(2, 1) + std::string(max_line, ' ') + "}\n"}) {
        CAPTURE(bad);
        const Fixture fixture;
        AuditRing one = make_ring(), two = make_ring();
        AuditLog log = fixture.log();
        log.begin(1, &one);
        REQUIRE(one.append(good));
        REQUIRE(one.append(bad));
        CHECK(log.drain());
        CHECK(log.is_corrupt(1));
        REQUIRE(one.append(good));
        CHECK(log.drain());
        auto records = fixture.records();
        REQUIRE(records.size() == 2);
        CHECK(records[0]["event"] == "good");
        CHECK(records[1]["event"] == "foul");
        CHECK(records[1]["seq"] == 2);
        CHECK(records[1]["bytes"] == bad.size());
        log.end(1, "was killed");
        log.begin(2, &two);
        CHECK(!log.is_corrupt(2));
        EventLoop loop = EventLoop::create().value();
        AuditTrail(&two, 2, "", loop).event({.event = "after"});
        CHECK(log.drain());
        records = fixture.records();
        CHECK(records.back()["event"] == "after");
        CHECK(records.back()["seq"] == 4);
    }
}

TEST_CASE("audit log: a full disk stops grants, loses no record and leaves whole lines") {
    const Fixture fixture;
    run_in_child([&] {
        AuditRing ring = make_ring();
        AuditLog log = fixture.log();
        log.begin(1, &ring);
        EventLoop loop = EventLoop::create().value();
        AuditTrail trail(&ring, 1, "", loop);
        UserQuota quota(policy::Limits{});
        SessionAudit session(1, R"("peer":{})", quota);
        const auto granted = [&] {
            return trail.decision(session, {.path = "/some/file"}, AuditTrail::Clock::now());
        };
        limit_files(1000);
        std::size_t made = 0;
        while (granted().may_leave) {
            ++made;
            if (const auto drained = log.drain(); !drained) CHECK(drained.error().errno_value == EFBIG);
            for (const json& record : fixture.records()) CHECK(record["event"] == "request");
        }
        CHECK(read_file(fixture.file).ends_with("}\n"));
        CHECK(made > fixture.records().size());
        limit_files(RLIM_INFINITY);
        CHECK(log.drain());
        CHECK(fixture.records().size() == made);
        CHECK(granted().sequence == made + 1);
    });
}

TEST_CASE("audit file: a line that an earlier opener left unfinished is ended") {
    const Fixture fixture;
    write_file(fixture.file, "{\"seq\":1}\n{\"seq\":2,\"gen");
    auto file = open_audit_file(fixture.file);
    REQUIRE(file);
    CHECK((*file)->write("{}\n").value() == 3);
    CHECK(read_file(fixture.file) == "{\"seq\":1}\n{\"seq\":2,\"gen\n{}\n");
}

TEST_CASE("audit file: rotation keeps as many as it is told, and neither splits nor loses a line") {
    const auto before = DescriptorTable::now();
    const Fixture fixture;
    {
        auto file = open_audit_file(fixture.file);
        REQUIRE(file);
        (*file)->rotate_by({.max_size = 250, .keep = 3});
        CHECK((*file)->write(line_of('a', 100) + line_of('b', 100) + line_of('c', 100)).value() == 300);
        CHECK(read_file(fixture.file + ".1") == line_of('a', 100) + line_of('b', 100));
        // Longer than a file may be: one for itself.
        CHECK((*file)->write(line_of('d', 400) + line_of('e', 50)).value() == 450);
        CHECK(read_file(fixture.file) == line_of('e', 50));
        CHECK(read_file(fixture.file + ".1") == line_of('d', 400));
        CHECK(read_file(fixture.file + ".2") == line_of('c', 100));
        CHECK(read_file(fixture.file + ".3") == line_of('a', 100) + line_of('b', 100));
        CHECK((*file)->write(line_of('f', 201)).value() == 201);
        CHECK((*file)->write(line_of('g', 49)).value() == 49);
        CHECK(read_file(fixture.file) == line_of('f', 201) + line_of('g', 49));
        CHECK(read_file(fixture.file + ".3") == line_of('c', 100));
        CHECK(!std::filesystem::exists(fixture.file + ".4"));
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("audit file: a file that cannot be rotated goes on growing and loses nothing") {
    const Fixture fixture;
    make_directory(fixture.file + ".1");
    auto file = open_audit_file(fixture.file);
    REQUIRE(file);
    (*file)->rotate_by({.max_size = 150, .keep = 1});
    const std::string lines = line_of('a', 100) + line_of('b', 100) + line_of('c', 100);
    std::size_t written = 0;
    while (written < lines.size()) written += (*file)->write(lines.substr(written)).value();
    CHECK(read_file(fixture.file) == lines);
}

TEST_CASE(
    "audit stream: a pipe that nobody reads takes what it has room for, and its flags stay as they were") {
    for (const bool is_socket : {false, true}) {
        CAPTURE(is_socket);
        int ends[2];
        REQUIRE((is_socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)
                           : ::pipe2(ends, O_CLOEXEC)) == 0);
        const proto::UniqueFd reader(ends[0]), writer(ends[1]);
        const int flags = ::fcntl(writer.number(), F_GETFL);
        auto stream = open_audit_stream(writer.borrow());
        REQUIRE(stream);
        const std::string lines(std::size_t{1} << 16, '\n');
        std::size_t total = 0, last = 0;
        do total += last = (*stream)->write(lines).value();
        while (last != 0);
        CHECK(total > 4096);
        CHECK(::fcntl(writer.number(), F_GETFL) == flags);
        std::string room(4096, '\0');
        while (::read(reader.number(), room.data(), room.size()) == 4096 && (total -= 4096) >= 4096) {
        }
        CHECK((*stream)->write("more\n").value() == 5);
    }
}
