// SPDX-License-Identifier: MIT
#include "tests/bench/records/day.hpp"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <optional>
#include <random>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/audit/audit_record.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::bench {

namespace {

using opener::DecisionRecord;
using opener::EventRecord;
using policy::Operation;
using policy::OperationSet;
using proto::Call;
using proto::Step;

struct Asked {
    Call call = Call::open;
    OperationSet operations{};
    std::string path{};
    std::string new_path{};
    const policy::Rule* rule = nullptr;
    int errno_value = 0;
    Step step = Step::none;
    std::string_view reason{};
};

class Day {
  public:
    Day(std::uint64_t count, const std::function<void(std::string_view)>& use) : count_(count), use_(use) {
        for (const auto& [name, line] :
             {std::pair("site", 9U), std::pair("keys", 14U), std::pair("spool", 19U),
              std::pair("backup", 25U), std::pair("settings", 30U)}) {
            policy::Rule& rule = rules_.emplace_back();
            rule.name = name;
            rule.location = {"/etc/fdbroker/policy.yaml", line, 5};
        }
        add_user({.uid = 33, .gid = 33, .user = "www-data", .group = "www-data", .listener = "default"},
                 "web", 64);
        add_user(
            {.uid = 34, .gid = 34, .groups = {4}, .user = "backup", .group = "backup", .listener = "default"},
            "backup", 2);
        add_user({.uid = 1000,
                  .gid = 1000,
                  .groups = {27, 100},
                  .user = "alice",
                  .group = "alice",
                  .listener = "jobs"},
                 "jobs", 8);
        add_user({.uid = 1001, .gid = 1001, .user = "bob", .group = "bob", .listener = "default"}, "", 3);
    }

    void make() {
        event({.event = "start", .policy_digest = std::string(64, '6'), .cause = "the opener starts"});
        for (const Session& session : sessions_)
            event({.event = "session-start", .session = session.number, .peer = session.peer});
        while (made_ + 1 < count_) {
            if (made_ == count_ / 3) next_generation("crash", "the broker was killed by signal 11");
            if (made_ == count_ / 2) next_generation("reload-failed", "policy.yaml:12:9: unknown key");
            request();
        }
        if (made_ < count_) event({.event = "stop", .cause = "the opener was told to stop"});
        flush();
    }

  private:
    struct Session {
        std::uint64_t number = 0;
        std::string peer{};
        std::uint32_t user = 0;
    };

    void add_user(const policy::PeerIdentity& identity, std::string_view role, unsigned sessions) {
        std::vector<std::string_view> roles;
        if (!role.empty()) roles.push_back(role);
        for (unsigned i = 0; i < sessions; ++i) {
            const auto number = static_cast<std::uint64_t>(sessions_.size() + 1);
            sessions_.push_back(
                {number, opener::audit_peer(identity, static_cast<std::int32_t>(4000 + number), roles),
                 identity.uid});
        }
    }

    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    // Some are asked for far more often than others.
    std::uint64_t popular(std::uint64_t limit) {
        const double share = static_cast<double>(below(1U << 20)) / (1U << 20);
        return static_cast<std::uint64_t>(share * share * share * static_cast<double>(limit));
    }

    // More by day than by night.
    opener::RecordHead head() {
        const double part = static_cast<double>(made_) / static_cast<double>(count_);
        const double bent = part + std::sin(2 * std::numbers::pi * part) / (4 * std::numbers::pi);
        constexpr std::chrono::sys_days midnight = std::chrono::year(2026) / 11 / 22;
        return {
            .sequence = ++made_,
            .generation = generation_,
            .policy = "6666666666666666",
            .time = midnight + std::chrono::microseconds(static_cast<std::int64_t>(bent * 86'399'000'000.0))};
    }

    void event(EventRecord record) {
        record.head = head();
        opener::write_line(line_, record);
        append();
    }

    void next_generation(std::string_view what, std::string_view why) {
        event({.event = what, .cause = why});
        ++generation_;
        event({.event = "start", .policy_digest = std::string(64, '6'), .cause = why});
    }

    void append() {
        chain_.append(pending_, line_);
        if (pending_.size() > (std::size_t{1} << 20)) flush();
    }
    void flush() {
        use_(pending_);
        pending_.clear();
    }

    void request() {
        const Session& session = sessions_[below(100) < 85 ? popular(64) : below(sessions_.size())];
        const Asked asked = asked_by(session.user);
        DecisionRecord record{.head = head(),
                              .duration = std::chrono::nanoseconds(3000 + below(9000)),
                              .session = session.number,
                              .request = ++request_,
                              .peer = session.peer,
                              .call = asked.call,
                              .operations = asked.operations,
                              .path = asked.path,
                              .new_path = asked.new_path,
                              .rule = asked.rule,
                              .errno_value = asked.errno_value,
                              .step = asked.step,
                              .reason = asked.reason};
        if (asked.step == Step::decide && below(50) == 0) record.count = 1 + below(400);
        opener::write_line(line_, record);
        append();
    }

    Asked asked_by(std::uint32_t user) {
        switch (user) {
            case 33:
                return by_server();
            case 34:
                return {.operations = {Operation::read},
                        .path = fmt::format("/home/user-{}/file-{}", below(50), below(500)),
                        .rule = &rules_[3]};
            case 1000:
                return by_job();
            default:
                return by_scanner();
        }
    }

    Asked by_server() {
        const std::uint64_t kind = below(1000);
        const std::string page = fmt::format("/srv/www/site-{}/page-{}.html", popular(40), popular(400));
        if (kind < 880) return {.operations = {Operation::read}, .path = page, .rule = &rules_[0]};
        if (kind < 950)
            return {.call = Call::stat, .operations = {Operation::stat}, .path = page, .rule = &rules_[0]};
        if (kind < 990)
            return {.operations = {Operation::read},
                    .path = fmt::format("/srv/www/site-{}/favicon-{}.ico", below(40), below(20)),
                    .rule = &rules_[0],
                    .errno_value = ENOENT,
                    .step = Step::resolve,
                    .reason = "there is no such file or directory"};
        if (kind < 996)
            return {.operations = {Operation::read},
                    .path = fmt::format("/srv/www/site-{}/tls/server.key", below(40)),
                    .rule = &rules_[1],
                    .errno_value = EACCES,
                    .step = Step::decide,
                    .reason = "rule \"keys\" denies it"};
        return {.operations = {Operation::read}, .path = "/etc/app/settings.toml", .rule = &rules_[4]};
    }

    Asked by_job() {
        const std::string path = fmt::format("/var/spool/jobs/alice/job-{}", below(5000));
        switch (below(4)) {
            case 0:
                return {.operations = {Operation::write, Operation::create, Operation::truncate},
                        .path = path,
                        .rule = &rules_[2]};
            case 1:
                return {.call = Call::rename,
                        .operations = {Operation::rename},
                        .path = path,
                        .new_path = path + ".done",
                        .rule = &rules_[2]};
            case 2:
                return {.call = Call::remove,
                        .operations = {Operation::remove},
                        .path = path + ".done",
                        .rule = &rules_[2]};
            default:
                return {.operations = {Operation::write},
                        .path = path,
                        .rule = &rules_[2],
                        .errno_value = EACCES,
                        .step = Step::inspect,
                        .reason = "rule \"spool\": it has 2 links, at most 1 may be"};
        }
    }

    // Somebody looks for what is open, also with names that try to break out of whatever shows them.
    Asked by_scanner() {
        static constexpr std::array paths{"/etc/shadow",
                                          "/etc/passwd",
                                          "/root/.ssh/id_ed25519",
                                          "/proc/1/environ",
                                          "/srv/www/</script><script>alert(1)</script>",
                                          "/tmp/\x1b[2J\xff\"'&",
                                          "/var/lib/secrets/token"};
        return {.operations = {Operation::read},
                .path = below(3) == 0 ? fmt::format("/home/user-{}/.ssh/id_rsa", below(2000))
                                      : paths[below(paths.size())],
                .errno_value = EACCES,
                .step = Step::decide,
                .reason = "no rule allows read"};
    }

    std::uint64_t count_;
    const std::function<void(std::string_view)>& use_;
    std::vector<policy::Rule> rules_{};
    std::vector<Session> sessions_{};
    std::mt19937_64 random_{20261122};
    std::uint64_t made_ = 0;
    std::uint32_t generation_ = 1;
    std::uint32_t request_ = 0;
    opener::AuditChain chain_{};
    std::string line_{}, pending_{};
};

std::string rule_text(std::string_view rest) {
    return fmt::format("  - {{{}}}\n", rest);
}

std::string rules_text(std::string_view spool) {
    std::string text =
        "version: 1\nroles: {web: {users: [\"33\"]}, backup: {users: [\"34\"]}, jobs: {users: "
        "[\"1000\"]}}\nrules:\n";
    text += rule_text("name: site, roles: [web], allow: [read, list, stat], paths: ['/srv/www/**']");
    text += rule_text("name: keys, deny: all, paths: ['/srv/www/**/*.key']");
    text += rule_text(spool);
    text += rule_text("name: backup, roles: [backup], allow: [read], paths: ['/home/**']");
    text += rule_text("name: settings, roles: [web], allow: [read], paths: [/etc/app/settings.toml]");
    return text + rule_text("name: mail, allow: [read], paths: ['/var/mail/**']");
}

}  // namespace

void make_day(std::uint64_t count, const std::function<void(std::string_view)>& use) {
    Day(count, use).make();
}

std::string policy_of_day() {
    return rules_text(
        "name: spool, roles: [jobs], allow: [modify, rename, remove], paths: ['/var/spool/jobs/${user}/**']");
}

std::string stricter_policy_of_day() {
    return rules_text("name: spool, roles: [jobs], allow: [modify], paths: ['/var/spool/jobs/${user}/**']");
}

}  // namespace fdbroker::bench
