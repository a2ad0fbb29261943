// SPDX-License-Identifier: MIT
#include "policy/advice/usage.hpp"

#include <algorithm>

#include "policy/advice/edit.hpp"
#include "policy/matching/compiled.hpp"
#include "policy/matching/matcher_walk.hpp"

namespace fdbroker::policy {
namespace {

struct Reached {
    Entry entry{};
    OperationSet operations{};
};

class EntryCollector {
  public:
    void deny(std::span<const Entry> entries, OperationSet operations) { collect(entries, operations); }
    void allow(std::span<const Entry> entries, OperationSet operations) { collect(entries, operations); }
    const std::vector<Reached>& reached() const noexcept { return reached_; }

  private:
    void collect(std::span<const Entry> entries, OperationSet operations) {
        for (const Entry& entry : entries) reached_.push_back({entry, operations});
    }
    std::vector<Reached> reached_{};
};

// The deepest directory above both, or `one` itself where it is one.
std::string common_directory(const std::string& one, std::string_view path) {
    std::size_t same = 0;
    for (std::size_t at = 0; at <= std::min(one.size(), path.size()); ++at) {
        const bool ends = (at == one.size() || one[at] == '/') && (at == path.size() || path[at] == '/');
        if (ends) same = at;
        if (at == one.size() || at == path.size() || one[at] != path[at]) break;
    }
    return one.substr(0, same);
}

std::string directory_of(std::string_view path) {
    return std::string(path.substr(0, path.rfind('/')));
}

}  // namespace

Usage::Usage(const Policy& policy) : policy_(policy), used_(policy.rules().size()) {}

void Usage::note(const PeerIdentity& identity, OperationSet operations, RequestPath path,
                 std::uint64_t requests) {
    const Policy::Compiled& compiled = policy_.compiled();
    const Peer peer = policy_.identify(identity);
    const Decision decision = policy_.decide(peer, operations, path);
    EntryCollector collector;
    walk(compiled.matcher, path, peer.values(), collector);
    const auto use = [&](const Rule* rule) {
        const auto index = static_cast<std::uint32_t>(rule - policy_.rules().data());
        Used& used = used_[index];
        used.requests += requests;
        used.operations = used.operations | (operations & rule->operations);
        for (const std::uint32_t role : compiled.role_sets.roles(compiled.rule_roles[index]))
            if (compiled.roles[role].held_by(identity)) used.roles.insert(role);
        for (const Reached& one : collector.reached()) {
            if (one.entry.rule != index || !(one.operations & operations).intersects(rule->operations))
                continue;
            const auto [place, is_new] =
                used.patterns.try_emplace(one.entry.pattern, directory_of(path.text()));
            if (!is_new) place->second = common_directory(place->second, path.text());
        }
    };
    if (decision) {
        for (const Rule* const rule : decision->rules()) use(rule);
    } else if (decision.error().denied_by != nullptr) {
        use(decision.error().denied_by);
    }
}

std::vector<RuleUsage> Usage::report() const {
    const Policy::Compiled& compiled = policy_.compiled();
    std::vector<RuleUsage> report;
    for (std::uint32_t index = 0; index < used_.size(); ++index) {
        const Used& used = used_[index];
        const Rule& rule = policy_.rules()[index];
        RuleUsage one{.rule = &rule, .requests = used.requests};
        if (used.requests == 0) {
            report.push_back(std::move(one));
            continue;
        }
        // A deny rule is meant to cover more than is tried.
        if (!rule.allows) continue;
        one.unused_operations = rule.operations - used.operations;
        for (const std::uint32_t role : compiled.role_sets.roles(compiled.rule_roles[index]))
            if (!used.roles.contains(role)) one.unused_roles.push_back(compiled.role_names[role]);
        const auto first = std::ranges::lower_bound(compiled.pattern_rules, index);
        for (auto at = first; at != compiled.pattern_rules.end() && *at == index; ++at) {
            const auto pattern = static_cast<std::uint32_t>(at - compiled.pattern_rules.begin());
            const std::string text(compiled.pattern(pattern));
            const auto known = used.patterns.find(pattern);
            if (known == used.patterns.end()) {
                one.unused_patterns.push_back(text);
                continue;
            }
            const std::string narrow = known->second.empty() ? "/**" : pattern_of(known->second) + "/**";
            const auto parsed = parse_pattern(text);
            const bool plain = parsed->size() == 1 && parsed->front().components.back().any_depth &&
                               parsed->front().head() + "/**" == text;
            if (plain && narrow.size() > text.size() &&
                known->second.starts_with(parsed->front().head() + '/'))
                one.narrower.emplace_back(text, narrow);
        }
        if (one.wider_than_used()) report.push_back(std::move(one));
    }
    return report;
}

}  // namespace fdbroker::policy
