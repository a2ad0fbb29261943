// SPDX-License-Identifier: MIT
#include "opener/ctl/policy_suggest.hpp"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "opener/ctl/audit_commands.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/progress.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/records/record_files.hpp"
#include "policy/matching/peer.hpp"

namespace fdbroker::ctl {

using records::Decision;
using records::Record;

namespace {

// Different refusals that are kept apart.
constexpr std::size_t max_refusals = 200'000;

policy::PeerIdentity identity_of(const records::RecordedPeer& recorded, const policy::Accounts& accounts) {
    policy::PeerIdentity peer = policy::complete(
        {.uid = *recorded.uid, .gid = recorded.gid, .groups = recorded.groups, .socket = recorded.listener},
        accounts);
    if (recorded.user) peer.user = *recorded.user;
    if (recorded.group) peer.group = *recorded.group;
    return peer;
}

class RefusalReader {
  public:
    explicit RefusalReader(policy::Usage* usage) : usage_(usage) {}

    void note(const Record& record) {
        ++records_;
        // A request that ended before its decision tells nothing about the policy.
        if (!record.is_request() || record.peer == nullptr || !record.peer->uid || record.operations.empty())
            return;
        if (record.decision == Decision::refused && record.step == "parse") return;
        const policy::PeerIdentity& peer = peer_of(*record.peer);
        for (const std::string_view path : {record.path, record.final_path, record.new_path}) {
            if (path.empty()) continue;
            use(peer, record, path);
            // Records of `worker run --learn` have no step: the policy refused all of them.
            if (record.decision == Decision::refused && (record.step == "decide" || record.step.empty()))
                refused(peer, record, path);
        }
    }

    std::vector<policy::RefusedRequest> requests() const {
        std::vector<policy::RefusedRequest> all;
        for (const auto& [key, request] : refusals_) all.push_back(request);
        return all;
    }
    std::uint64_t records() const noexcept { return records_; }
    std::uint64_t forgotten() const noexcept { return forgotten_; }

  private:
    const policy::PeerIdentity& peer_of(const records::RecordedPeer& recorded) {
        const auto known = peers_.find(recorded.id);
        if (known != peers_.end()) return known->second;
        // Ids of later peers differ, so what is forgotten is not asked for again.
        if (peers_.size() >= records::RecordParser::max_peers) peers_.clear();
        return peers_.emplace(recorded.id, identity_of(recorded, accounts_)).first->second;
    }

    void use(const policy::PeerIdentity& peer, const Record& record, std::string_view path) {
        if (usage_ == nullptr) return;
        const std::string text(path);
        if (const auto parsed = policy::RequestPath::parse(text))
            usage_->note(peer, record.operations, *parsed, record.count);
    }

    void refused(const policy::PeerIdentity& peer, const Record& record, std::string_view path) {
        const auto key = std::tuple(peer.uid, peer.listener, record.operations.bits(), std::string(path));
        const auto known = refusals_.find(key);
        if (known != refusals_.end()) {
            known->second.count += record.count;
        } else if (refusals_.size() >= max_refusals) {
            ++forgotten_;
        } else {
            refusals_.emplace(key, policy::RefusedRequest{.peer = peer,
                                                          .operations = record.operations,
                                                          .path = std::string(path),
                                                          .count = record.count,
                                                          .denied = !record.rule.empty()});
        }
    }

    policy::Usage* usage_;
    opener::SystemAccounts accounts_{};
    std::map<std::uint64_t, policy::PeerIdentity> peers_{};
    std::map<std::tuple<std::uint32_t, std::string, std::uint16_t, std::string>, policy::RefusedRequest>
        refusals_{};
    std::uint64_t records_ = 0;
    std::uint64_t forgotten_ = 0;
};

// Empty: all are patterns.
std::optional<std::string> wrong_pattern(const std::vector<std::string>& patterns) {
    for (const std::string& pattern : patterns)
        if (const auto parsed = policy::parse_pattern(pattern); !parsed)
            return fmt::format("--include: \"{}\": {}", pattern, parsed.error());
    return std::nullopt;
}

}  // namespace

Ending policy_suggest(const SuggestCommandOptions& options) {
    if (const auto wrong = wrong_pattern(options.include)) return failed(opener::exit_usage, *wrong);
    if (options.unused && options.policy.empty())
        return failed(opener::exit_usage, "--unused: of which policy? --policy FILE names it");
    std::optional<PolicyFiles> files;
    const policy::Policy* base = nullptr;
    if (!options.policy.empty()) {
        files.emplace(read_policy(options.policy, policy::OwnTests::left_to_caller));
        if (!files->policy) return report_diagnostics(*files, options.json);
        base = &*files->policy;
    }
    const auto names = with_rotated(options.files, options.rotated, "policy suggest");
    if (!names) return std::unexpected(names.error());
    auto opened = records::open_record_files(*names);
    if (!opened) return failed(opener::exit_failed, "policy suggest: " + opened.error().message());

    std::optional<policy::Usage> usage;
    if (options.unused) usage.emplace(*base);
    RefusalReader reading(usage ? &*usage : nullptr);
    ProgressLine progress("policy suggest",
                          options.json ? ProgressLine::Beside::json : ProgressLine::Beside::text);
    const auto read = records::read_records(
        std::move(*opened),
        [&](const Record& record) {
            reading.note(record);
            return records::Reading::go_on;
        },
        [&](const records::Progress& so_far) {
            progress.tell(so_far.share(), fmt::format("{} records", so_far.records));
        });
    if (!read) return failed(opener::exit_failed, "policy suggest: " + read.error().message());

    const opener::SystemAccounts accounts;
    SuggestReport report{
        .records = reading.records(), .malformed = read->malformed, .forgotten = reading.forgotten()};
    report.suggestion =
        policy::suggest(reading.requests(), accounts,
                        {.policy = base,
                         .generalise = options.generalise ? policy::Generalise::yes : policy::Generalise::no,
                         .include = options.include});
    if (usage) report.unused = usage->report();
    if (options.json) {
        print_json(to_json(report, base));
    } else {
        print_raw(policy_text(report, base));
    }
    return opener::exit_done;
}

}  // namespace fdbroker::ctl
