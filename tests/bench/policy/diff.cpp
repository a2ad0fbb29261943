// SPDX-License-Identifier: MIT
// The time that `openerctl policy diff` takes for a thousand rules against a thousand: after one edit, with every rule
// edited, and with globs that multiply.
#include "policy/diff/diff.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <charconv>
#include <stdexcept>
#include <system_error>

#include "policy/language/loader.hpp"

namespace {

using namespace fdbroker::policy;

class NumberedAccounts : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string& user) const override {
        std::uint32_t number = 0;
        const char* const end = user.data() + user.size();
        if (!user.starts_with('u')) return std::nullopt;
        const auto [stop, error] = std::from_chars(user.data() + 1, end, number);
        if (stop != end || error != std::errc()) return std::nullopt;
        return 1000 + number;
    }
    std::optional<std::uint32_t> gid_of(const std::string&) const override { return std::nullopt; }
    std::optional<UserRecord> record_of(std::uint32_t uid) const override {
        return UserRecord{.name = fmt::format("u{}", uid - 1000), .gid = uid, .group = {}, .groups = {}};
    }
};

// Tenants with a role each, in the ways that policies name files.
std::string tenants(std::int64_t rules, const char* operations, std::int64_t edited) {
    std::string roles = "roles:\n";
    std::string text = "rules:\n";
    for (std::int64_t rule = 0; rule < rules; ++rule) {
        const std::string allowed = rule == edited ? "read, write" : operations;
        roles += fmt::format("  t{0}: {{users: [u{0}]}}\n", rule);
        const std::string_view paths[] = {"/srv/tenants/t{0}/**", "/srv/tenants/t{0}/etc/*.toml",
                                          "/home/${{user}}/t{0}/*", "/var/log/t{0}-*"};
        text += fmt::format("  - {{name: r{}, roles: [t{}], allow: [{}], paths: ['{}']}}\n", rule, rule,
                            allowed, fmt::format(fmt::runtime(paths[rule % 4]), rule));
    }
    return "version: 1\n" + roles + text + "  - {name: keys, deny: all, paths: ['/**/*.key', '/**/.git']}\n";
}

std::string extensions(std::int64_t rules, const char* effect) {
    std::string text = "version: 1\nrules:\n  - {name: all, allow: [read, stat], paths: ['/srv/**']}\n";
    for (std::int64_t rule = 0; rule < rules; ++rule)
        text += fmt::format("  - {{name: r{0}, {1}, paths: ['/**/*.ext{0}']}}\n", rule, effect);
    return text;
}

Policy policy_of(const std::string& yaml) {
    auto policy = load(
        {"policy.yaml", yaml}, [](const std::string&) { return std::vector<Source>{}; }, NumberedAccounts());
    if (!policy) throw std::runtime_error(policy.error().front().what());
    return std::move(*policy);
}

void compare(benchmark::State& state, const std::string& before, const std::string& after) {
    const Policy one = policy_of(before);
    const Policy other = policy_of(after);
    PolicyDiff found;
    for (auto _ : state) found = diff(one, other, NumberedAccounts());
    state.counters["differences"] = static_cast<double>(found.differences.size());
    state.counters["states"] = static_cast<double>(found.proof.states);
    state.counters["all_paths"] = found.proof.all_paths ? 1 : 0;
}

constexpr std::int64_t rules = 1000;

void one_edit(benchmark::State& state) {
    compare(state, tenants(rules, "read, stat", -1), tenants(rules, "read, stat", rules / 2));
}
void every_rule_edited(benchmark::State& state) {
    compare(state, tenants(rules, "read, stat", -1), tenants(rules, "read", -1));
}
void no_rule_in_common(benchmark::State& state) {
    compare(state, tenants(rules, "read, stat", -1), extensions(rules, "allow: [read]"));
}
void extensions_allowed(benchmark::State& state) {
    compare(state, extensions(rules, "allow: [read]"), extensions(rules, "allow: [write]"));
}
void extensions_denied(benchmark::State& state) {
    compare(state, extensions(rules, "deny: [read]"), extensions(rules, "deny: [stat]"));
}

BENCHMARK(one_edit)->Unit(benchmark::kMillisecond);
BENCHMARK(every_rule_edited)->Unit(benchmark::kMillisecond);
BENCHMARK(no_rule_in_common)->Unit(benchmark::kMillisecond);
BENCHMARK(extensions_allowed)->Unit(benchmark::kMillisecond);
BENCHMARK(extensions_denied)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
