// SPDX-License-Identifier: MIT
// What a decision costs with 10, 1,000 and 100,000 rules, beside fnmatch(3) over the same rules; how long a policy
// takes to load, and the memory that a rule takes beyond its text.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <malloc.h>

#include <random>

#include "policy/language/loader.hpp"

namespace {

using namespace fdbroker::policy;

class NoAccounts : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string&) const override { return std::nullopt; }
    std::optional<std::uint32_t> gid_of(const std::string&) const override { return std::nullopt; }
};

enum class Kind { prefix, exact, deny, any_depth };

std::string pattern(Kind kind, std::int64_t rule) {
    switch (kind) {
        case Kind::prefix:
        case Kind::deny:
            return fmt::format("/srv/tenants/tenant-{:06}/**", rule);
        case Kind::exact:
            return fmt::format("/srv/tenants/tenant-{:06}/etc/settings.toml", rule);
        case Kind::any_depth:
            return fmt::format("/**/*.ext{}", rule);
    }
    return {};
}

std::string path(Kind kind, std::int64_t rule) {
    if (kind == Kind::any_depth) return fmt::format("/srv/tenants/a/b/c.ext{}", rule);
    return fmt::format("/srv/tenants/tenant-{:06}/etc/settings.toml", rule);
}

std::string text(Kind kind, std::int64_t rules) {
    std::string yaml = "version: 1\nrules:\n";
    if (kind == Kind::deny) yaml += "  - {name: all, allow: [read], paths: ['/srv/**']}\n";
    for (std::int64_t rule = 0; rule < rules; ++rule)
        yaml += fmt::format("  - {{name: r{}, {}: [read], paths: ['{}']}}\n", rule,
                            kind == Kind::deny ? "deny" : "allow", pattern(kind, rule));
    return yaml;
}

Policy policy_of(const std::string& yaml) {
    auto policy = load(
        {"/etc/fdbroker/policy.yaml", yaml}, [](const std::string&) { return std::vector<Source>{}; },
        NoAccounts());
    if (!policy) throw std::runtime_error(policy.error().front().what());
    return std::move(*policy);
}

// Paths in an order that no cache foresees; the same for every number of rules.
std::vector<std::string> random_paths(Kind kind, std::int64_t rules) {
    std::mt19937 random(1);
    std::vector<std::string> paths;
    for (unsigned count = 0; count < 4096; ++count)
        paths.push_back(path(kind, static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(rules))));
    return paths;
}

void decide(benchmark::State& state, Kind kind) {
    const Policy policy = policy_of(text(kind, state.range(0)));
    const Peer peer = policy.identify({.uid = 1000, .gid = 1000, .user = "alice", .group = "alice"});
    const auto paths = random_paths(kind, state.range(0));
    std::size_t next = 0;
    for (auto _ : state) {
        const auto parsed = RequestPath::parse(paths[next++ % paths.size()]);
        const Decision decision = policy.decide(peer, {Operation::read}, *parsed);
        if (decision.has_value() == (kind == Kind::deny)) state.SkipWithError("decided wrongly");
    }
}

void fnmatch_all(benchmark::State& state, Kind kind) {
    std::vector<std::string> patterns;
    for (std::int64_t rule = 0; rule < state.range(0); ++rule) {
        patterns.push_back(pattern(kind, rule));
        // Without FNM_PATHNAME a single * crosses slashes, which is what ** means.
        if (const std::size_t stars = patterns.back().find("**"); stars != std::string::npos)
            patterns.back().erase(stars, 1);
    }
    const auto paths = random_paths(kind, state.range(0));
    std::size_t next = 0;
    for (auto _ : state) {
        const std::string& asked = paths[next++ % paths.size()];
        bool found = false;
        for (const std::string& one : patterns)
            if (fnmatch(one.c_str(), asked.c_str(), 0) == 0) {
                found = true;
                break;
            }
        if (!found) state.SkipWithError("decided wrongly");
    }
}

std::size_t heap_bytes() {
    return mallinfo2().uordblks + mallinfo2().hblkhd;
}

void load_time(benchmark::State& state) {
    const std::string yaml = text(Kind::prefix, state.range(0));
    std::size_t text_bytes = 0;
    for (std::int64_t rule = 0; rule < state.range(0); ++rule)
        text_bytes += pattern(Kind::prefix, rule).size();
    for (auto _ : state) {
        const std::size_t before = heap_bytes();
        const Policy policy = policy_of(yaml);
        const auto taken = static_cast<double>(heap_bytes() - before - text_bytes);
        state.counters["bytes_a_rule"] = taken / static_cast<double>(state.range(0));
    }
    state.SetComplexityN(state.range(0));
}

void identify(benchmark::State& state) {
    const Policy policy = policy_of(text(Kind::prefix, 10));
    for (auto _ : state)
        benchmark::DoNotOptimize(
            policy.identify({.uid = 1000, .gid = 1000, .user = "alice", .group = "alice"}));
}

void sizes(benchmark::internal::Benchmark* bench) {
    bench->Arg(10)->Arg(1000)->Arg(100'000);
}
void small_sizes(benchmark::internal::Benchmark* bench) {
    bench->Arg(10)->Arg(1000);
}

BENCHMARK_CAPTURE(decide, prefix, Kind::prefix)->Apply(sizes);
BENCHMARK_CAPTURE(decide, exact, Kind::exact)->Apply(sizes);
BENCHMARK_CAPTURE(decide, deny, Kind::deny)->Apply(sizes);
BENCHMARK_CAPTURE(decide, any_depth_first, Kind::any_depth)->Apply(small_sizes);
BENCHMARK_CAPTURE(fnmatch_all, prefix, Kind::prefix)->Apply(sizes);
BENCHMARK_CAPTURE(fnmatch_all, exact, Kind::exact)->Apply(sizes);
BENCHMARK_CAPTURE(fnmatch_all, any_depth_first, Kind::any_depth)->Apply(small_sizes);
BENCHMARK(identify);
BENCHMARK(load_time)->Apply(sizes)->Unit(benchmark::kMillisecond)->Complexity(benchmark::oN);

}  // namespace

BENCHMARK_MAIN();
