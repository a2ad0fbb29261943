// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>

#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_trail.hpp"
#include "tests/support/descriptors.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using nlohmann::json;

namespace {

policy::Rule rule_named(const char* name) {
    policy::Rule rule;
    rule.name = name;
    rule.location = {"/etc/fdbroker/policy.yaml", 14, 5};
    return rule;
}

bool readable(proto::BorrowedFd fd) {
    pollfd event{fd.number(), POLLIN, 0};
    return ::poll(&event, 1, 0) == 1;
}

std::string line_beginning(std::uint64_t sequence, std::uint32_t generation) {
    std::string beginning;
    write_line_beginning(beginning, sequence, generation);
    return beginning;
}

}  // namespace

TEST_CASE("audit record: a decision is one line of JSON with every key") {
    const policy::Rule rule = rule_named("sité");
    const std::vector<std::string_view> roles{"web", "staff"};
    const std::string peer = audit_peer(
        {.uid = 33, .gid = 34, .groups = {34, 5}, .user = "www-data", .group = "www", .listener = "default"},
        4711, roles);
    std::string line;
    write_line(line, DecisionRecord{.head = {.sequence = 7,
                                             .generation = 2,
                                             .policy = "0123456789abcdef",
                                             .time = std::chrono::system_clock::time_point(
                                                 std::chrono::microseconds(1'000'000'012'345))},
                                    .duration = std::chrono::nanoseconds(4200),
                                    .session = 5,
                                    .request = 9,
                                    .peer = peer,
                                    .call = proto::Call::put,
                                    .operations = {policy::Operation::read, policy::Operation::create},
                                    .path = "/srv/www/index.html",
                                    .final_path = "/srv/www/\xff",
                                    .new_path = "/srv/\xff",
                                    .rule = &rule});
    CHECK(line.starts_with(line_beginning(7, 2)));
    CHECK(line.ends_with("}\n"));
    CHECK(line.find('\n') == line.size() - 1);
    const json record = json::parse(line);
    CHECK(
        record ==
        json::parse(
            R"({"seq":7,"generation":2,"policy":"0123456789abcdef","time":"1970-01-12T13:46:40.012345Z","event":"request",
        "session":5,"request":9,"listener":"default",
        "peer":{"pid":4711,"uid":33,"gid":34,"user":"www-data","group":"www","groups":[34,5],"roles":["web","staff"]},
        "call":"put","operation":["read","create"],"path":"/srv/www/index.html","final_path":"/srv/www/\u00ff","new_path":"/srv/\u00ff","decision":"allowed","rule":"sité",
        "at":"/etc/fdbroker/policy.yaml:14","duration_ns":4200})"));
    std::string keys;
    const auto ordered = nlohmann::ordered_json::parse(line);
    for (const auto& [key, value] : ordered.items()) keys += key + ' ';
    CHECK(keys ==
          "seq generation policy time event decision session request listener peer call operation path "
          "final_path new_path rule at duration_ns ");
}

TEST_CASE("audit record: a refusal says where and why") {
    std::string line;
    write_line(line, DecisionRecord{.peer = R"("peer":{})",
                                    .path = "/etc/shadow",
                                    .errno_value = EACCES,
                                    .step = proto::Step::decide,
                                    .reason = "no rule allows read"});
    const json record = json::parse(line);
    CHECK(record["decision"] == "refused");
    CHECK(record["step"] == "decide");
    CHECK(record["errno"] == EACCES);
    CHECK(record["reason"] == "no rule allows read");
    CHECK(!record.contains("rule"));
}

TEST_CASE("audit record: any byte of a path comes back from a parser as one character") {
    std::string path = "/";
    for (int byte = 1; byte < 256; ++byte) path.push_back(static_cast<char>(byte));
    std::string line;
    write_line(line, DecisionRecord{.peer = R"("peer":{})", .path = path});
    for (const char byte : line) CHECK((byte == '\n' || (byte >= 0x20 && byte < 0x7f)));
    std::string expected;  // the same numbers as code points, in UTF-8
    for (const char byte : path) {
        const auto value = static_cast<unsigned char>(byte);
        if (value < 0x80) {
            expected.push_back(byte);
        } else {
            expected.push_back(static_cast<char>(0xc0 | value >> 6));
            expected.push_back(static_cast<char>(0x80 | (value & 0x3f)));
        }
    }
    CHECK(json::parse(line)["path"] == expected);
}

TEST_CASE("audit record: text keeps its letters and holds no control character") {
    const std::string cause = "\xc3\x80\xc2\x9b\xc3\x9b\xc2\xa0";
    std::string line;
    write_line(line, EventRecord{.event = "start", .cause = cause});
    CHECK(line.find("\xc3\x80\\u009b\xc3\x9b\xc2\xa0") != std::string::npos);
    CHECK(json::parse(line)["cause"] == cause);
}

TEST_CASE("audit record: a peer without a name is null, and its names cannot break out of their string") {
    CHECK(json::parse("{" + audit_peer({.uid = 1}, 0, {}) + "}")["peer"]["user"].is_null());
    CHECK(json::parse("{" + audit_peer({.uid = 1}, 0, {}) + "}")["peer"]["group"].is_null());
    CHECK(json::parse("{" + audit_peer({.user = "a\"},\"uid\":0,\"b\":\"\n\\"}, 0, {}) +
                      "}")["peer"]["uid"] == 0);
    CHECK(json::parse("{" + audit_peer({.uid = 7, .user = "a\"},\"uid\":0,\"b\":\"\n\\"}, 0, {}) +
                      "}")["peer"]["uid"] == 7);
}

TEST_CASE("audit record: a peer of very many groups and roles is told with how many more there are") {
    const std::vector<std::string_view> roles(70, "role");
    std::vector<std::uint32_t> groups(65536, 4'000'000'000U);
    const json peer = json::parse("{" + audit_peer({.uid = 1, .groups = groups}, 0, roles) + "}")["peer"];
    CHECK(peer["groups"].size() == 64);
    CHECK(peer["more_groups"] == 65536 - 64);
    CHECK(peer["roles"].size() == 64);
    CHECK(peer["more_roles"] == 6);
}

TEST_CASE("audit ring: records come out whole and in order, also across the end of the memory") {
    const auto before = test::DescriptorTable::now();
    {
        auto ring = AuditRing::create();
        REQUIRE(ring);
        std::string expected, taken;
        // Three times round, in records of a length that does not divide the capacity.
        for (int i = 0; expected.size() < 3 * AuditRing::capacity; ++i) {
            std::string record(997, static_cast<char>('a' + i % 26));
            record.back() = '\n';
            CHECK(ring->next_sequence() == static_cast<std::uint64_t>(i) + 1);
            REQUIRE(ring->append(record));
            expected += record;
            if (i % 100 == 99) CHECK(ring->take(taken) == 100 * record.size());
        }
        ring->take(taken);
        CHECK(taken == expected);
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("audit ring: the first record wakes a consumer that sleeps, the next do not") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    std::string taken;
    CHECK(!readable(ring->wakeup()));
    REQUIRE(ring->append("one\n"));
    CHECK(readable(ring->wakeup()));
    ring->announce_awake();
    ring->take(taken);
    REQUIRE(ring->append("two\n"));
    CHECK(!readable(ring->wakeup()));
    CHECK(!ring->announce_sleep());  // "two" is there
    ring->take(taken);
    CHECK(ring->announce_sleep());
    REQUIRE(ring->append("three\n"));
    CHECK(readable(ring->wakeup()));
}

TEST_CASE("audit ring: a ring half full wakes a consumer that is awake") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    ring->announce_awake();
    const std::string quarter(AuditRing::capacity / 4, 'x');
    REQUIRE(ring->append(quarter));
    CHECK(!readable(ring->wakeup()));
    REQUIRE(ring->append(quarter));
    REQUIRE(ring->append("one more\n"));
    CHECK(readable(ring->wakeup()));
}

TEST_CASE("audit ring: while nothing can be written nothing is taken, and no number is lost") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    REQUIRE(ring->append("one\n"));
    ring->announce_failing(true);
    const auto number = ring->next_sequence();
    CHECK(!ring->append("two\n"));
    CHECK(ring->next_sequence() == number);
    ring->announce_failing(false);
    CHECK(ring->append("two\n"));
    CHECK(ring->next_sequence() == number + 1);
    std::string taken;
    ring->take(taken);
    CHECK(taken == "one\ntwo\n");
}

TEST_CASE("audit ring: a producer goes on with the number that it is told, and loses nothing") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    REQUIRE(ring->append("one\n"));
    ring->continue_at(7);
    CHECK(ring->next_sequence() == 7);
    REQUIRE(ring->append("two\n"));
    CHECK(ring->next_sequence() == 8);
    std::string taken;
    ring->take(taken);
    CHECK(taken == "one\ntwo\n");
}

TEST_CASE("audit trail: a draining generation makes as many records as it was granted") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    EventLoop loop = EventLoop::create().value();
    AuditTrail trail(&*ring, 3, "", loop);
    UserQuota quota(policy::Limits{});
    SessionAudit session(1, R"("peer":{})", quota);
    ring->continue_at(10);
    trail.continue_with(2);
    CHECK(trail.decision(session, {}, AuditTrail::Clock::now()).sequence == 10);
    trail.event({.event = "helper-back"});
    const auto above = trail.decision(session, {}, AuditTrail::Clock::now());
    CHECK(above.sequence == 0);
    CHECK(!above.may_leave);
    trail.event({.event = "helper-back"});
    CHECK(ring->next_sequence() == 12);
    CHECK(trail.counts().failed == 1);
}

TEST_CASE("audit trail: grants that leave in one message are all on record, or none is") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    EventLoop loop = EventLoop::create().value();
    AuditTrail trail(&*ring, 3, "", loop);
    UserQuota quota(policy::Limits{});
    SessionAudit session(1, R"("peer":{})", quota);
    const std::string path(2000, 'a');
    std::vector<DecisionRecord> grants{{.request = 1, .path = path}, {.request = 2, .path = path}};
    const auto check_none = [&] {
        const auto number = ring->next_sequence();
        const auto recorded = trail.grants_together(session, grants, std::chrono::steady_clock::now());
        CHECK(recorded.sequence == 0);
        CHECK_FALSE(recorded.may_leave);
        CHECK(ring->next_sequence() == number);
    };
    const auto recorded = trail.grants_together(session, grants, std::chrono::steady_clock::now());
    CHECK(recorded.sequence == 1);
    CHECK(recorded.may_leave);
    std::string lines;
    ring->take(lines);
    const json first = json::parse(lines.substr(0, lines.find('\n')));
    const json second = json::parse(lines.substr(lines.find('\n')));
    CHECK(first["seq"] == 1);
    CHECK(first["request"] == 1);
    CHECK(second["seq"] == 2);
    CHECK(second["request"] == 2);
    CHECK(second["session"] == 1);

    // There is room for one of them.
    REQUIRE(ring->append(std::string(AuditRing::capacity - 3000, 'x')));
    check_none();
    lines.clear();
    CHECK(ring->take(lines) == AuditRing::capacity - 3000);
    trail.continue_with(1);
    check_none();
    CHECK(ring->take(lines) == 0);
    CHECK(trail.counts().failed == 4);
    trail.apply({.refuse_unrecorded = false});
    CHECK(trail.grants_together(session, grants, std::chrono::steady_clock::now()).may_leave);
    trail.apply({.allowed = false});
    CHECK(trail.grants_together(session, grants, std::chrono::steady_clock::now()).may_leave);
}

TEST_CASE("audit ring: a full ring is waited for, and given up on where nobody empties it") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    const std::string all(AuditRing::capacity, 'x');
    REQUIRE(ring->append(all));
    CHECK(!ring->append("too much\n"));
    const pid_t consumer = ::fork();
    if (consumer == 0) {
        pollfd wakeup{ring->wakeup().number(), POLLIN, 0};
        ::poll(&wakeup, 1, -1);
        std::string taken;
        ::_exit(ring->take(taken) == AuditRing::capacity ? 0 : 1);
    }
    CHECK(ring->append("room again\n"));
    int status = -1;
    ::waitpid(consumer, &status, 0);
    CHECK(status == 0);
}

TEST_CASE("audit trail: only what the policy wants is recorded, and an unrecorded grant stays here") {
    auto ring = AuditRing::create();
    REQUIRE(ring);
    EventLoop loop = EventLoop::create().value();
    AuditTrail trail(&*ring, 3, "", loop);
    UserQuota quota(policy::Limits{});
    SessionAudit session(1, R"("peer":{})", quota);
    const DecisionRecord allowed{};
    const DecisionRecord refused{.errno_value = EACCES};
    const auto decide = [&](const DecisionRecord& record) {
        return trail.decision(session, record, AuditTrail::Clock::now());
    };
    trail.apply({.refused = true, .allowed = false});
    CHECK(decide(allowed).sequence == 0);
    CHECK(decide(allowed).may_leave);
    CHECK(decide(refused).sequence == 1);

    ring->announce_failing(true);
    trail.apply({});
    CHECK(!decide(allowed).may_leave);
    CHECK(decide(refused).may_leave);
    trail.apply({.refuse_unrecorded = false});
    CHECK(decide(allowed).may_leave);
}
