// SPDX-License-Identifier: MIT
// What bounds a user: token buckets, his share of the descriptors on their way, refusals that are counted.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_trail.hpp"
#include "opener/base/token_bucket.hpp"
#include "opener/quota/user_quota.hpp"
#include "opener/supervisor/rejected_connections.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Clock = TokenBucket::Clock;
const Clock::time_point start = Clock::time_point() + seconds(1000);

// A trail whose records can be read, and a session of a user.
struct Fixture {
    AuditRing ring = *AuditRing::create();
    AuditTrail trail{&ring, 1, ""};
    UserQuota share{policy::Limits{}};
    SessionAudit session{1, R"("peer":{})", share};

    AuditTrail::Recorded refuse(std::string_view path, std::uint32_t request, Clock::time_point now,
                                proto::Call call = proto::Call::open) {
        return trail.decision(session,
                              {.duration = seconds(1),
                               .request = request,
                               .call = call,
                               .path = path,
                               .errno_value = EACCES,
                               .step = proto::Step::decide,
                               .reason = "no rule allows read"},
                              now);
    }
    std::vector<json> records() {
        std::string text;
        ring.take(text);
        std::vector<json> all;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
        return all;
    }
};

}  // namespace

TEST_CASE("token bucket: a burst at once, then the rate, and no more after a long pause than the burst") {
    TokenBucket bucket(1000, 50);
    bucket.use(49, start);
    CHECK(bucket.usable_at() <= start);
    bucket.use(1, start);
    CHECK(bucket.usable_at() > start);
    CHECK(bucket.usable_at() <= start + milliseconds(1));
    // A message may bring more than there is: that much longer the wait.
    bucket.use(1000, start);
    CHECK(bucket.usable_at() > start + seconds(1));
    CHECK(bucket.usable_at() <= start + milliseconds(1001));
    CHECK(!bucket.is_full(start + seconds(1)));
    CHECK(bucket.is_full(start + seconds(100)));
    bucket.use(50, start + seconds(100));
    CHECK(bucket.usable_at() > start + seconds(100));
}

TEST_CASE("token bucket: a small burst is enough for timers of a millisecond to reach a high rate") {
    TokenBucket bucket(1'000'000, 1);
    Clock::time_point now = start;
    std::uint64_t used = 0;
    for (; now < start + seconds(1); now += milliseconds(1)) {
        for (; bucket.usable_at() <= now; used += 100) bucket.use(100, now);
    }
    CHECK(used >= 1'000'000);
    CHECK(used <= 1'000'000 + 10'000 + 100);
}

TEST_CASE("user share: whoever uses up one thing waits, and users who need nothing more are forgotten") {
    UserQuotas shares({.requests_per_second = policy::Rate{10, 10}}, 8000);
    UserQuota& share = shares.of(1);
    CHECK(&shares.of(1) == &share);
    CHECK(share.limits_requests());
    share.use_requests(10, start);
    CHECK(share.paused_until() > start);
    CHECK(shares.of(2).paused_until() < start);
    CHECK(!share.is_idle(start));
    CHECK(share.is_idle(start + seconds(10)));
    share.use_record_bytes(record_bytes_at_once + record_bytes_per_second, start);
    CHECK(share.paused_until() > start + seconds(1));
    CHECK(!share.is_idle(start + seconds(10)));
    ++share.sessions;
    CHECK(!share.is_idle(start + std::chrono::hours(1)));
    --share.sessions;
    shares.forget_idle(start + std::chrono::hours(1));
    CHECK(shares.of(1).paused_until() < start);
    CHECK(!UserQuota(policy::Limits{}).limits_requests());
}

TEST_CASE("user share: who has had his bytes of snapshots gets none until there are some again") {
    UserQuotas shares({.requests_per_second = {}, .snapshot_bytes_per_second = {.rate = 1000, .burst = 5000}},
                      8000);
    UserQuota& share = shares.of(1);
    CHECK(share.use_copied_bytes(4000, start));
    CHECK(share.use_copied_bytes(4000, start));
    CHECK_FALSE(share.use_copied_bytes(1, start));
    CHECK_FALSE(share.use_copied_bytes(1, start + seconds(3)));
    CHECK_FALSE(share.is_idle(start + seconds(3)));
    CHECK(share.use_copied_bytes(1, start + seconds(4)));
    CHECK(shares.of(2).use_copied_bytes(1, start));
    // It is nothing that a session waits for.
    CHECK(share.paused_until() < start);
}

TEST_CASE("user share: however many users leave descriptors unread, there is room for one more") {
    constexpr std::size_t most = 4096;
    UserQuotas shares({}, most);
    std::size_t on_their_way = 0;
    for (std::uint32_t uid = 1; uid <= 30; ++uid) {
        UserQuota& share = shares.of(uid);
        while (shares.may_send_more(share)) {
            shares.sent(share, 1);
            ++on_their_way;
        }
        CHECK(share.unread <= most / 8 + 1);
        CHECK(shares.may_send_more(shares.of(1000)));
    }
    CHECK(on_their_way < most);
    shares.taken(shares.of(1), shares.of(1).unread);
    CHECK(shares.may_send_more(shares.of(1)));
}

TEST_CASE("audit trail: refusals alike are counted above 20 a second, and recorded as one when it is over") {
    Fixture fixture;
    for (std::uint32_t i = 1; i <= 50; ++i) {
        const auto recorded = fixture.refuse("/a", i, start);
        CHECK(recorded.may_leave);
        CHECK(recorded.sequence == (i <= 20 ? i : 0));
    }
    CHECK(fixture.refuse("/b", 51, start).sequence == 21);
    REQUIRE(fixture.trail.settle_at().has_value());
    CHECK(*fixture.trail.settle_at() == start + seconds(1));
    fixture.trail.settle(start + milliseconds(900));
    CHECK(fixture.records().size() == 21);
    fixture.trail.settle(start + seconds(1));
    const auto records = fixture.records();
    REQUIRE(records.size() == 1);
    CHECK(records[0]["count"] == 30);
    CHECK(records[0]["path"] == "/a");
    CHECK(records[0]["request"] == 50);
    CHECK(records[0]["session"] == 1);
    CHECK(!fixture.trail.settle_at().has_value());
    // A second later they are recorded one by one again.
    CHECK(fixture.refuse("/a", 52, start + seconds(1)).sequence == 23);
    CHECK(!fixture.records()[0].contains("count"));
}

TEST_CASE(
    "audit trail: what differs in anything is not counted together, and nothing is lost for want of room") {
    Fixture fixture;
    for (std::uint32_t i = 0; i < 25; ++i) fixture.refuse("/a", i, start);
    for (const char* path : {"/b", "/c"}) fixture.refuse(path, 30, start + milliseconds(1));
    fixture.refuse("/a", 30, start + milliseconds(1), proto::Call::discard);
    fixture.refuse("/e", 30, start + milliseconds(2));
    auto records = fixture.records();
    REQUIRE(records.size() == 25);
    CHECK(records[23]["path"] == "/a");
    CHECK(records[23]["count"] == 5);
    for (std::uint32_t i = 0; i < 25; ++i) fixture.refuse("/e", i, start + milliseconds(3));
    fixture.trail.decision(fixture.session, {.path = "/e", .errno_value = ENOENT}, start + milliseconds(3));
    fixture.trail.session_event(fixture.session, "session-end", "", start + milliseconds(4));
    records = fixture.records();
    REQUIRE(records.size() == 22);
    CHECK(records[20]["path"] == "/e");
    CHECK(records[20]["count"] == 6);
    CHECK(records[21]["event"] == "session-end");
}

TEST_CASE("audit trail: connections of nobody knows whom fill no more of the log than one user") {
    Fixture fixture;
    std::size_t bytes = 0;
    for (std::uint64_t session = 1; session <= 200'000; ++session) {
        fixture.trail.session_refused({.event = "session-refused",
                                       .session = session,
                                       .cause = "nobody can say who this is",
                                       .count = 2},
                                      start);
        std::string text;
        if (fixture.ring.take(text) == 0) break;
        bytes += text.size();
    }
    CHECK(bytes > record_bytes_at_once / 2);
    CHECK(bytes <= record_bytes_at_once + 1000);
    fixture.trail.session_refused({.event = "session-refused", .session = 1, .cause = "a second later"},
                                  start + seconds(1));
    CHECK(fixture.records().size() == 1);
}

TEST_CASE(
    "audit trail: refusals, long paths, comings and goings are paid for by their user, grants are not") {
    Fixture fixture;
    const std::string long_path(4000, '\x01');
    fixture.trail.decision(fixture.session, {.path = long_path}, start);
    fixture.records();
    CHECK(fixture.share.is_idle(start));
    std::uint32_t made = 0;
    for (; fixture.share.paused_until() < start; ++made) {
        fixture.refuse(long_path + std::to_string(made), made, start);
        fixture.records();
    }
    CHECK(made * 6 * long_path.size() <= record_bytes_at_once + 6 * 4096);
    UserQuota other(policy::Limits{});
    SessionAudit session(2, R"("peer":{})", other);
    for (int i = 0; i < 10; ++i) {
        fixture.trail.session_event(session, "session-start", "", start);
        fixture.trail.session_event(session, "session-end", "", start);
    }
    CHECK(!other.is_idle(start + milliseconds(10)));
    CHECK(other.is_idle(start + seconds(1)));
    fixture.trail.event_of(other, {.event = "helper-stuck"}, start + seconds(1));
    CHECK(!other.is_idle(start + seconds(1)));
}

TEST_CASE("turned away: the first of a user is told of at once, the others once a second and together") {
    RejectedConnections counts;
    CHECK(!counts.due());
    CHECK(counts.is_first({.uid = 7, .pid = 1}, start));
    CHECK(counts.is_first({.uid = 8, .pid = 1}, start));
    CHECK(counts.is_first({.listener = 1, .uid = 7, .pid = 1}, start));
    for (pid_t pid = 2; pid < 102; ++pid) CHECK(!counts.is_first({.uid = 7, .gid = 70, .pid = pid}, start));
    CHECK(counts.due() == start + RejectedConnections::interval);
    CHECK(counts.take(start + milliseconds(999)).empty());
    const auto taken = counts.take(start + seconds(1));
    REQUIRE(taken.size() == 1);
    CHECK(taken.front().uid == 7);
    CHECK(taken.front().gid == 70);
    CHECK(taken.front().pid == 101);
    CHECK(taken.front().count == 100);
    // Still within a second of the last record.
    CHECK(!counts.is_first({.uid = 7, .pid = 200}, start + milliseconds(1500)));
    CHECK(counts.is_first({.uid = 8, .pid = 200}, start + milliseconds(1500)));
    CHECK(counts.take(start + seconds(2)).size() == 1);
    CHECK(counts.take(start + seconds(3)).empty());
    CHECK(!counts.due());
    CHECK(counts.is_first({.uid = 7, .pid = 300}, start + seconds(4)));
}
