// SPDX-License-Identifier: MIT
// What bounds a user: token buckets, their share of the descriptors on their way, refusals that are counted.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_trail.hpp"
#include "opener/base/repeats.hpp"
#include "opener/base/token_bucket.hpp"
#include "opener/quota/user_quota.hpp"

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
    EventLoop loop = EventLoop::create().value();
    AuditTrail trail{&ring, 1, "", loop};
    UserQuota quota{policy::Limits{}};
    SessionAudit session{1, R"("listener":"default","peer":{})", quota};

    Recorded refuse(std::string_view path, std::uint32_t request, Clock::time_point now,
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

TEST_CASE("user quota: whoever uses up one thing waits, and users who need nothing more are forgotten") {
    UserQuotas quotas({.requests_per_second = policy::Rate{10, 10},
                       .record_bytes_per_second = {.rate = 1000, .burst = 5000}},
                      8000);
    UserQuota& quota = quotas.of(1);
    CHECK(&quotas.of(1) == &quota);
    CHECK(quota.limits_requests());
    quota.use_requests(10, start);
    CHECK(quota.paused_until() > start);
    CHECK(quotas.of(2).paused_until() < start);
    CHECK(!quota.is_idle(start));
    CHECK(quota.is_idle(start + seconds(10)));
    const auto later = start + seconds(10);
    CHECK_FALSE(quota.is_slowed(later));
    CHECK(quota.use_record_bytes(4999, later));
    CHECK_FALSE(quota.use_record_bytes(1001, later));
    CHECK(quota.paused_until() > later + seconds(1));
    CHECK(quota.is_slowed(later));
    CHECK(quota.slowed_since() == later);
    CHECK_FALSE(quota.is_slowed(later + seconds(3)));
    CHECK(!quota.is_idle(later + seconds(5)));
    CHECK(quota.is_idle(later + seconds(7)));
    ++quota.sessions;
    CHECK(!quota.is_idle(start + std::chrono::hours(1)));
    --quota.sessions;
    quotas.forget_idle(start + std::chrono::hours(1));
    CHECK(quotas.of(1).paused_until() < start);
    CHECK(!UserQuota(policy::Limits{}).limits_requests());
}

TEST_CASE("user quota: a user whose snapshot bytes are spent gets no snapshot until some return") {
    UserQuotas quotas({.requests_per_second = {}, .snapshot_bytes_per_second = {.rate = 1000, .burst = 5000}},
                      8000);
    UserQuota& quota = quotas.of(1);
    CHECK(quotas.use_copied_bytes(quota, 4000, start));
    CHECK(quotas.use_copied_bytes(quota, 4000, start));
    CHECK_FALSE(quotas.use_copied_bytes(quota, 1, start));
    CHECK_FALSE(quotas.use_copied_bytes(quota, 1, start + seconds(3)));
    CHECK_FALSE(quota.is_idle(start + seconds(3)));
    CHECK(quotas.use_copied_bytes(quota, 1, start + seconds(4)));
    CHECK(quotas.use_copied_bytes(quotas.of(2), 1, start));
    // No session waits for this.
    CHECK(quota.paused_until() < start);
}

TEST_CASE("user quota: however many users leave descriptors unread, there is room for one more") {
    constexpr std::size_t most = 4096;
    UserQuotas quotas({}, most);
    std::size_t on_their_way = 0;
    for (std::uint32_t uid = 1; uid <= 30; ++uid) {
        UserQuota& quota = quotas.of(uid);
        while (quotas.may_send_more(quota)) {
            quotas.sent(quota, 1);
            ++on_their_way;
        }
        CHECK(quota.unread <= most / 8 + 1);
        CHECK(quotas.may_send_more(quotas.of(1000)));
    }
    CHECK(on_their_way < most);
    quotas.taken(quotas.of(1), quotas.of(1).unread);
    CHECK(quotas.may_send_more(quotas.of(1)));
}

TEST_CASE("audit trail: failures of one kind are counted above 20 a second, whatever their names") {
    Fixture fixture;
    for (std::uint32_t i = 1; i <= 50; ++i) {
        const auto recorded = fixture.refuse("/a" + std::to_string(i), i, start);
        CHECK(recorded.may_leave);
        CHECK(recorded.sequence == (i <= 20 ? i : 0));
    }
    CHECK(fixture.trail.counts().counted == 30);
    REQUIRE(fixture.loop.next_timer().has_value());
    CHECK(*fixture.loop.next_timer() == start + seconds(1));
    CHECK_FALSE(fixture.quota.is_idle(start + std::chrono::hours(1)));
    fixture.loop.run_timers(start + milliseconds(900));
    CHECK(fixture.records().size() == 20);
    fixture.loop.run_timers(start + seconds(1));
    const auto records = fixture.records();
    REQUIRE(records.size() == 1);
    CHECK(records[0]["count"] == 30);
    // The first that was counted is the example.
    CHECK(records[0]["path"] == "/a21");
    CHECK(records[0]["request"] == 21);
    CHECK(records[0]["session"] == 1);
    CHECK(!fixture.loop.next_timer().has_value());
    CHECK(fixture.quota.is_idle(start + std::chrono::hours(1)));
    // A second later they are recorded one by one again.
    CHECK(fixture.refuse("/a", 52, start + seconds(1)).sequence == 22);
    CHECK(!fixture.records()[0].contains("count"));
}

TEST_CASE("audit trail: failures of another kind are not counted together") {
    Fixture fixture;
    const policy::Rule rule{};
    const DecisionRecord whole{.call = proto::Call::open,
                               .operations = {policy::Operation::read},
                               .path = "/a",
                               .errno_value = EACCES,
                               .step = proto::Step::decide,
                               .reason = "no rule allows read"};
    for (std::uint32_t i = 0; i < 25; ++i) fixture.trail.decision(fixture.session, whole, start);
    std::vector<DecisionRecord> others(5, whole);
    others[0].call = proto::Call::stat;
    others[1].operations = {policy::Operation::write};
    others[2].errno_value = ENOENT;
    others[3].step = proto::Step::resolve;
    others[4].rule = &rule;
    for (const DecisionRecord& other : others)
        CHECK(fixture.trail.decision(fixture.session, other, start).sequence != 0);
    SessionAudit elsewhere(2, R"("listener":"other","peer":{})", fixture.quota);
    CHECK(fixture.trail.decision(elsewhere, whole, start).sequence != 0);
    // Another session of the user is no other kind: whoever connects anew for each request is counted as well.
    SessionAudit again(3, fixture.session.peer, fixture.quota);
    CHECK(fixture.trail.decision(again, whole, start).sequence == 0);
    UserQuota another_user{policy::Limits{}};
    SessionAudit theirs(4, fixture.session.peer, another_user);
    CHECK(fixture.trail.decision(theirs, whole, start).sequence != 0);
}

TEST_CASE("audit trail: whoever varies the kind without end loses no count, and pays for the records") {
    Fixture fixture;
    std::uint64_t failures = 0;
    for (int round = 0; round < 30; ++round) {
        for (int error = 1; error <= 40; ++error, ++failures)
            fixture.trail.decision(fixture.session, {.path = "/a", .errno_value = error}, start);
    }
    fixture.loop.run_timers(start + seconds(1));
    std::uint64_t told = 0;
    for (const json& record : fixture.records()) told += record.value("count", std::uint64_t{1});
    CHECK(told == failures);
    CHECK(!fixture.quota.is_idle(start));
}

TEST_CASE("audit trail: beginnings and ends of sessions are counted above 20 a second, by their causes") {
    Fixture fixture;
    for (std::uint64_t i = 0; i < 100; ++i) {
        SessionAudit session(100 + i, R"("listener":"default","peer":{"pid":1})", fixture.quota);
        fixture.trail.session_event(session, "session-start", "", start);
        fixture.trail.session_event(session, "session-end", "the peer closed the connection", start);
    }
    fixture.trail.session_event(fixture.session, "session-end", "the message is malformed", start);
    auto records = fixture.records();
    REQUIRE(records.size() == 41);
    CHECK(records.back()["cause"] == "the message is malformed");
    fixture.loop.run_timers(start + seconds(1));
    records = fixture.records();
    REQUIRE(records.size() == 2);
    CHECK(records[0]["event"] == "session-start");
    CHECK(records[0]["count"] == 80);
    CHECK(records[0]["session"] == 120);
    CHECK(records[0]["peer"]["pid"] == 1);
    CHECK(records[1]["event"] == "session-end");
    CHECK(records[1]["count"] == 80);
    CHECK(records[1]["cause"] == "the peer closed the connection");
}

TEST_CASE("audit trail: connections of nobody knows whom are counted, and none is forgotten") {
    Fixture fixture;
    for (std::uint64_t session = 1; session <= 10'000; ++session)
        fixture.trail.session_refused({.event = "session-refused",
                                       .session = session,
                                       .cause = "nobody can say who this is",
                                       .count = 2},
                                      start);
    CHECK(fixture.loop.next_timer() == start + seconds(1));
    fixture.loop.run_timers(start + seconds(1));
    const auto records = fixture.records();
    CHECK(records.size() == 21);
    std::uint64_t told = 0;
    for (const json& record : records) told += record["count"].get<std::uint64_t>();
    CHECK(told == 20'000);
}

TEST_CASE("audit trail: every record of a user's sessions is charged to the user, grants as well") {
    const std::string path(4000, '\x01');
    Fixture fixture;
    constexpr policy::Rate allowed{.rate = std::uint64_t{64} << 10, .burst = std::uint64_t{1} << 20};
    UserQuota quota({.requests_per_second = {}, .record_bytes_per_second = allowed}), other(policy::Limits{});
    SessionAudit session(1, R"("peer":{})", quota), theirs(2, R"("peer":{})", other);
    std::uint64_t bytes = 0;
    for (; !quota.is_slowed(start); fixture.records()) {
        const auto recorded = fixture.trail.decision(session, {.path = path}, start);
        CHECK(recorded.sequence != 0);
        CHECK(recorded.may_leave);
        bytes += 6 * path.size();
    }
    CHECK(bytes <= allowed.burst + 6 * path.size());
    CHECK(bytes >= allowed.burst - allowed.burst / 50);
    CHECK(fixture.trail.counts().slowed == 1);
    CHECK(quota.paused_until() > start);
    // Whoever is slowed is neither refused nor unrecorded.
    CHECK(fixture.trail.decision(session, {.path = path}, start).sequence != 0);
    CHECK(fixture.trail.counts().slowed == 1);
    std::vector<DecisionRecord> grants(3, {.path = "/a"});
    CHECK(fixture.trail.grants_together(theirs, grants, start).sequence != 0);
    CHECK(!other.is_idle(start));
    CHECK(!other.is_slowed(start));
    CHECK(other.is_idle(start + seconds(1)));
    fixture.trail.event_of(other, {.event = "helper-stuck"}, start + seconds(1));
    CHECK(!other.is_idle(start + seconds(1)));
}

namespace {

// A report of repeated events: "KIND:EXAMPLE×COUNT".
struct Word {
    char kind;
    std::string text;
};
class RepeatedWord {
  public:
    explicit RepeatedWord(const Word& word) : kind_(word.kind) {}
    bool is_like(const Word& word) const { return word.kind == kind_; }
    void keep(const Word& word) { text_ = word.text; }
    std::string told(std::uint64_t count) const {
        return kind_ + (":" + text_) + "x" + std::to_string(count);
    }

  private:
    char kind_;
    std::string text_{};
};

}  // namespace

TEST_CASE("repeats: the first of a kind stand for themselves, the others are told with an example") {
    Repeats<RepeatedWord> repeats({.whole = 2, .kinds = 3});
    std::string told;
    const auto tell = [&told](const RepeatedWord& word, std::uint64_t count) {
        told += word.told(count) + ' ';
    };
    const auto stands_alone = [&](const Word& word, Clock::time_point now, std::uint64_t count = 1) {
        return repeats.stands_alone(word, now, tell, count);
    };
    CHECK(!repeats.due());
    CHECK(stands_alone({'a', "1"}, start));
    CHECK(stands_alone({'a', "2"}, start));
    CHECK(!repeats.due());
    CHECK_FALSE(stands_alone({'a', "3"}, start));
    CHECK_FALSE(stands_alone({'a', "4"}, start, 5));
    CHECK(stands_alone({'b', "1"}, start + milliseconds(1)));
    CHECK(repeats.due() == start + seconds(1));
    repeats.settle(start + milliseconds(999), tell);
    CHECK(told.empty());
    repeats.settle(start + seconds(1), tell);
    CHECK(std::exchange(told, "") == "a:3x6 ");
    CHECK(!repeats.due());
    // A new interval begins; a past one is also reported when the next event of that kind comes first.
    CHECK(stands_alone({'a', "5"}, start + seconds(1)));
    CHECK(stands_alone({'a', "6"}, start + seconds(1)));
    CHECK_FALSE(stands_alone({'a', "7"}, start + seconds(1)));
    CHECK(stands_alone({'a', "8"}, start + seconds(2)));
    CHECK(std::exchange(told, "") == "a:7x1 ");
    // The kind that began longest ago makes room.
    CHECK(stands_alone({'a', "9"}, start + seconds(2)));
    CHECK_FALSE(stands_alone({'a', "0"}, start + seconds(2)));
    for (const char kind : {'c', 'd', 'e'}) CHECK(stands_alone({kind, ""}, start + milliseconds(2001)));
    CHECK(told == "a:0x1 ");
}
